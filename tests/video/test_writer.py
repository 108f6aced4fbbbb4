from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("av")

import av

from saliencykit.core.errors import InputError
from saliencykit.video.reader import Clip
from saliencykit.video.writer import Writer
from tests.clips import COUNT, read_back, sound_of, write_clip


def copied(source, out, count=None, whole=True, before=None):
    """The clip written again, up to so many frames."""
    clip = Clip(source)
    writer = Writer(out, source, clip.info, "what was done")
    for frame in clip:
        if frame.index == count:
            break
        if before is not None:
            before(writer, frame.index)
        writer.write(
            frame.origin.reformat(*(side + side % 2 for side in clip.info.size), "yuv420p"),
            Fraction(frame.time),
        )
    return writer.finish(whole=whole)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_times_images_and_sound_are_those_of_the_clip(suffix, tmp_path):
    source, out = write_clip(tmp_path / "a.mp4", sound=True), tmp_path / f"b{suffix}"
    assert copied(source, out)
    times, images = read_back(out)
    assert np.allclose(np.subtract(times, times[0]), [i / 10 for i in range(COUNT)], atol=2e-3)
    assert np.abs(images[5].astype(float) - read_back(source)[1][5]).mean() < 12
    assert sound_of(out) == sound_of(source)
    with av.open(str(out)) as file:
        assert "what was done" in file.metadata.values()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"a.mp4", out.name})


def test_a_variable_frame_rate_is_kept(tmp_path):
    times = [0, 40, 80, 300, 310, 500, 900, 1000, 1020, 2000]
    source, out = write_clip(tmp_path / "a.mkv", times=times), tmp_path / "b.mp4"
    copied(source, out)
    assert [round(1000 * t) for t in read_back(out)[0]] == times


def test_an_interrupted_clip_is_playable_and_its_sound_ends_with_it(tmp_path):
    source, out = write_clip(tmp_path / "a.mp4", count=40, sound=True), tmp_path / "b.mp4"
    assert copied(source, out, count=12, whole=False)
    assert len(read_back(out)[0]) == 12
    heard = sound_of(out)
    assert 8 < len(heard) < 16
    assert heard == sound_of(source)[: len(heard)]


def test_without_a_frame_there_is_no_file_and_the_old_one_stays(tmp_path):
    source, out = write_clip(tmp_path / "a.mp4", sound=True), tmp_path / "b.mp4"
    out.write_bytes(b"old")
    assert not copied(source, out, count=0, whole=False)
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_full_disk_ends_in_a_playable_file(tmp_path):
    source, out = write_clip(tmp_path / "a.mp4", count=30, sound=True), tmp_path / "b.mp4"

    def fill(writer, index):
        if index == 20:
            writer._reserve.full = True

    copied(source, out, count=21, before=fill)
    with av.open(str(out)) as file:
        assert [s.type for s in file.streams] == ["video", "audio"]


def test_the_first_clip_stays_as_it_was(tmp_path):
    source = write_clip(tmp_path / "a.mp4", sound=True)
    before = source.read_bytes()
    copied(source, tmp_path / "b.mp4")
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("b.avi", "must end in .mp4"),
        ("b", "must end in .mp4"),
        ("no/b.mp4", "cannot write to"),
        ("b.webm", "b.mkv"),
    ],
)
def test_what_cannot_be_written_is_one_line(name, words, tmp_path):
    source = write_clip(tmp_path / "a.mp4", sound=True)
    with pytest.raises(InputError, match=words):
        Writer(tmp_path / name, source, Clip(source).info, "")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
