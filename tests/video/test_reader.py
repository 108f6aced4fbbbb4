import numpy as np
import pytest

pytest.importorskip("av")

import av

from saliencykit.core.errors import InputError
from saliencykit.video.reader import Clip
from tests.clips import COUNT, SIZE, pixels, write_clip


def near(image, wanted):
    """An image of a lossy codec is the wanted one."""
    return np.abs(np.asarray(image, np.float32) - wanted).mean() < 25


def test_frames_come_in_order_with_times_and_again_from_the_beginning(tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mp4", sound=True))
    assert clip.info.size == SIZE
    assert clip.info.frames == COUNT
    for _ in range(2):
        frames = list(clip)
        assert [f.index for f in frames] == list(range(COUNT))
        assert [float(f.time) for f in frames] == [i / 10 for i in range(COUNT)]
        assert all(near(f.image, pixels(f.index)) for f in frames)
    assert clip.damage is None


def test_ffmpeg_prints_nothing_where_torchvision_had_let_it(tmp_path, capfd):
    av.logging.set_level(av.logging.ERROR)
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(InputError, match="is not a video"):
        Clip(tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_what_is_stored_turned_comes_upright(rotation, tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mp4", rotation=rotation))
    wanted = np.rot90(pixels(3), rotation // 90)
    frame = list(clip)[3]
    assert clip.info.size == (wanted.shape[1], wanted.shape[0]) == frame.image.size
    assert clip.info.stored == SIZE
    assert near(frame.image, wanted)


def test_a_variable_frame_rate_stays_what_it_is(tmp_path):
    times = [0, 40, 80, 300, 310, 500, 900, 1000, 1001, 2000]
    clip = Clip(write_clip(tmp_path / "a.mkv", times=times))
    assert [round(1000 * float(f.time)) for f in clip] == times


def test_odd_sizes_and_other_pixels_are_read_as_they_are(tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mkv", size=(33, 25), codec="ffv1", form="yuv444p"))
    assert {f.image.size for f in clip} == {(33, 25)}


@pytest.mark.parametrize(("name", "options"), [("a.mkv", {}), ("a.mp4", {"movflags": "faststart"})])
def test_a_truncated_clip_gives_what_can_be_read_and_says_so(name, options, tmp_path):
    path = write_clip(tmp_path / name, count=40, sound=name == "a.mkv", options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    clip = Clip(path)
    frames = list(clip)
    assert 3 < len(frames) < 38
    assert clip.damage
    assert near(frames[2].image, pixels(2))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.mp4", None, "there is no file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is no video at all\n" * 20, "is not a video"),
    ],
)
def test_what_is_no_clip_is_one_line(name, content, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        Clip(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_mp4_without_its_end_is_one_line(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(InputError, match="truncated"):
        Clip(path)


def test_sound_alone_is_no_clip(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        voice = file.add_stream("aac", rate=8000, layout="mono")
        part = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        part.sample_rate, part.pts = 8000, 0
        file.mux(voice.encode(part))
        file.mux(voice.encode(None))
    with pytest.raises(InputError, match="no video stream"):
        Clip(tmp_path / "a.mp4")


def test_a_folder_is_no_clip(tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        Clip(tmp_path)
