"""The summary of an explained video."""

from fractions import Fraction

import pytest

from saliencykit.cli.video_summary import frame_rate_note


@pytest.mark.parametrize(
    ("fps", "wanted", "words"),
    [
        (30, None, "every frame explained"),
        (30, 60, "every frame explained"),
        (30, 10, "1 in 3 frames explained"),
        (25, 1, "1 in 25 frames explained"),
        (25, 10, "at most 10 of 25 frames per second explained"),
    ],
)
def test_the_frame_rate_in_words(fps, wanted, words):
    assert frame_rate_note(Fraction(fps), wanted) == words
