from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.core.errors import InputError
from saliencykit.video.frame import Frame, as_frames, paced


def test_images_get_numbers_and_frames_keep_theirs():
    mine = Frame("b", time=1.0, index=7)
    assert [f.index for f in as_frames(["a", mine, "c"])] == [0, 7, 2]


@pytest.mark.parametrize(
    ("have", "wanted", "indices"),
    [
        (30, 10, [0, 3, 6, 9, 12]),
        (25, 10, [0, 3, 5, 8, 10, 13]),
        (10, 30, list(range(15))),
        (10, None, list(range(15))),
    ],
)
def test_every_frame_that_is_due_is_kept(have, wanted, indices):
    clip = [Frame(None, time=Fraction(i, have), index=i) for i in range(15)]
    assert [frame.index for frame in paced(clip, wanted)] == indices


def test_a_clip_that_begins_late_is_paced_from_its_beginning():
    clip = [Frame(None, time=5 + i / 10, index=i) for i in range(10)]
    assert [frame.index for frame in paced(clip, 5)] == [0, 2, 4, 6, 8]


def test_times_that_were_rounded_to_milliseconds_are_paced_alike():
    clip = [Frame(None, time=round(i / 30, 3), index=i) for i in range(300)]
    assert [frame.index for frame in paced(clip, 10)] == list(range(0, 300, 3))


@given(gaps=st.lists(st.floats(0.001, 2), min_size=1, max_size=40), fps=st.floats(0.2, 60))
def test_never_more_a_second_than_wanted(gaps, fps):
    times = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    kept = [float(f.time) for f in paced([Frame(None, time=t) for t in times], fps)]
    assert kept[0] == times[0]
    assert len(kept) <= (kept[-1] - kept[0]) * fps + 1.02
    assert kept == [t for t in times if t in kept]


def test_without_times_it_says_what_to_write():
    with pytest.raises(InputError, match=r"Frame\(image, time=seconds\)"):
        list(paced(as_frames(["a"]), 5))
