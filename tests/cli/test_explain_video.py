"""`saliencykit explain CLIP`, as a user meets it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from saliencykit.cli import explain_video
from saliencykit.cli.explain_video import is_video
from saliencykit.cli.video_summary import VideoSummary
from tests.clips import read_back, sound_of, write_clip


@pytest.fixture
def explain(command):
    """Runs the command in this process: exit code, what it said, what it complained about."""
    return partial(command, "explain")


def test_a_video_becomes_a_video_with_its_sound_and_times(explain, tmp_path):
    write_clip(
        tmp_path / "a.mp4", sound=True, times=[0, 100, 150, 300, 400, 420, 600, 700, 800, 1000]
    )
    code, out, err = explain("a.mp4", "--output", "b.mp4", "--label", "tabby")
    assert code == 0, err
    assert "every frame explained" in out
    assert "tabby" in out
    times, images = read_back(tmp_path / "b.mp4")
    assert [round(1000 * t) for t in times] == [0, 100, 150, 300, 400, 420, 600, 700, 800, 1000]
    assert sound_of(tmp_path / "b.mp4") == sound_of(tmp_path / "a.mp4")
    assert images[0].shape == (24, 32, 3)
    assert np.abs(images[5].astype(float) - read_back(tmp_path / "a.mp4")[1][5]).mean() > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_lower_frame_rate_is_reported_and_written_into_the_file(explain, tmp_path):
    import av

    write_clip(tmp_path / "a.mp4")
    code, out, err = explain(
        "a.mp4",
        "--output",
        "b.mp4",
        "--fps",
        "5",
        "--smoothing",
        "0",
        "--json",
        "--masker",
        "center-box",
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["frame_rate"] == "1 in 2 frames explained"
    assert facts["frames"] == 5
    assert facts["segments"][0]["frames"] == 5
    assert read_back(tmp_path / "b.mp4")[0] == [0.0, 0.2, 0.4, 0.6, 0.8]
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert "1 in 2 frames explained" in file.metadata["comment"]


def test_a_rotated_video_with_odd_sides_becomes_upright_and_even(explain, tmp_path):
    write_clip(tmp_path / "a.mp4", rotation=90)
    code, _, err = explain("a.mp4", "--output", "b.mkv", "--masker", "center-box")
    assert code == 0, err
    assert read_back(tmp_path / "b.mkv")[1][0].shape == (32, 24, 3)
    write_clip(tmp_path / "odd.mkv", size=(33, 25), codec="ffv1", form="yuv444p")
    code, _, err = explain("odd.mkv", "--masker", "center-box")
    assert code == 0, err
    assert read_back(tmp_path / "explanation.mp4")[1][0].shape == (26, 34, 3)


def test_a_truncated_video_is_written_up_to_its_end_with_code_3(explain, tmp_path):
    path = write_clip(tmp_path / "a.mkv", count=40, sound=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, err = explain("a.mkv", "--output", "b.mp4", "--masker", "center-box")
    assert code == explain_video.STOPPED_EARLY == 3
    (line,) = [line for line in err.splitlines() if line.startswith("Stopped early")]
    assert "a.mkv is damaged or ends early" in line
    assert "wrote" in out
    assert 3 < len(read_back(tmp_path / "b.mp4")[0]) < 38


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("none.mp4", "--output", "b.mp4"), "there is no file"),
        (("text.mp4", "--output", "b.mp4"), "is not a video"),
        (("a.mp4", "--output", "b.avi"), "must end in .mp4"),
        (("a.mp4", "--output", "a.mp4"), "choose another name"),
        (("a.mp4", "--output", "no/b.mp4"), "cannot write to"),
        (("a.mp4", "b.mp4", "--output", "c.mp4"), "one video at a time"),
        (("a.mp4", "--output", "b.mp4", "--label", "tabbby"), "Did you mean"),
        (("a.mp4", "--output", "b.mp4", "--label", "200"), "200"),
        (("a.mp4", "--output", "b.mp4", "--smoothing", "1"), "smoothing=1.0"),
        (("a.mp4", "--output", "b.mp4", "--fps", "0"), "--fps 0"),
    ],
)
def test_a_mistake_is_one_line_with_code_2_and_nothing_is_written(args, words, explain, tmp_path):
    write_clip(tmp_path / "a.mp4", count=2)
    (tmp_path / "text.mp4").write_text("this is no video\n" * 30)
    code, _, err = explain(*args)
    assert code == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("Warning")]
    assert len(lines) == 1, err
    assert words in lines[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "text.mp4"]


def test_ctrl_c_leaves_a_playable_video(explain, tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mp4", count=30, sound=True)
    real = VideoSummary.add

    def add(self, answer):
        real(self, answer)
        if self.count == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(VideoSummary, "add", add)
    code, _, err = explain("a.mp4", "--output", "b.mp4", "--masker", "center-box")
    assert code == 130
    assert "b.mp4 holds the first 7 frames" in err
    assert len(read_back(tmp_path / "b.mp4")[0]) == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_full_disk_leaves_a_playable_video_with_code_3(explain, tmp_path, monkeypatch):
    from saliencykit.video.disk_full_guard import ReserveFile

    write_clip(tmp_path / "a.mp4", count=60, sound=True)
    real = ReserveFile.write

    def write(self, data):
        if self.tell() > 3000:
            self.full = True
        return real(self, data)

    monkeypatch.setattr(ReserveFile, "write", write)
    code, _, err = explain("a.mp4", "--output", "b.mp4", "--masker", "center-box")
    assert code == 3
    (line,) = [line for line in err.splitlines() if line.startswith("Stopped early")]
    assert "the disk is full" in line
    count = len(read_back(tmp_path / "b.mp4")[0])
    assert 0 < count < 60
    assert f"b.mp4 holds the first {count} frames" in line


def test_videos_are_recognized_by_their_names():
    assert is_video(["a.MP4"], Path("explanation"))
    assert is_video(["a.bin"], Path("b.mkv"))
    assert not is_video(["a.jpg"], Path("explanation"))
    assert not is_video(None, Path("explanation"))
