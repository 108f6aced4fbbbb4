import pytest

pytest.importorskip("av")

import numpy as np

from tests.clips import COUNT, SIZE, pixels, read_back, sound_of, write_clip


def test_a_clip_holds_what_it_was_made_of(tmp_path):
    times, images = read_back(write_clip(tmp_path / "clip.mkv", codec="ffv1", form="bgr0"))
    assert times == [i / 10 for i in range(COUNT)]
    assert images[3].shape == (SIZE[1], SIZE[0], 3)
    assert all((image == pixels(i)).all() for i, image in enumerate(images))


def test_sound_is_there_when_it_is_wanted(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", sound=True)
    assert len(sound_of(path)) >= 8
    assert len(read_back(path)[0]) == COUNT


def test_frames_have_the_times_that_are_given(tmp_path):
    times, _ = read_back(write_clip(tmp_path / "clip.mkv", count=3, times=[0, 40, 500]))
    assert times == [0.0, 0.04, 0.5]
    assert np.diff(times).min() > 0
