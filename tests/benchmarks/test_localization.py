"""The boxes of all cuts, and overlaps; the cuts themselves are tested in
tests/metrics/test_thresholding.py.
"""

import numpy as np
import pytest

from benchmarks.localization import CROPS, CUTS, HALF, RULES, best_overlap, boxes_of
from tests.metrics.test_thresholding import around, slow_cut, slow_parts


@pytest.mark.parametrize("seed", range(3))
def test_every_box_is_the_slow_one(seed):
    values = np.random.default_rng(seed).random((12, 15)).astype(np.float32)
    found = boxes_of(values)
    for (name, level), everything, largest in zip(
        CUTS, found["all"], found["largest"], strict=True
    ):
        parts = slow_parts(slow_cut(values, RULES[name], level))
        assert list(everything) == around(set().union(*parts), values.shape), (name, level)
        assert list(largest) == around(max(parts, key=len, default=()), values.shape), (name, level)


def test_flat_and_empty_maps_are_the_whole_photo():
    assert set(boxes_of(np.zeros((5, 7)))["all"]) == {(0, 0, 7, 5)}
    assert set(boxes_of(np.ones((5, 7)))["largest"]) == {(0, 0, 7, 5)}


def test_a_box_is_found_at_every_threshold_below_its_value():
    values = np.zeros((10, 10))
    values[2:5, 3:9] = 1
    found = boxes_of(values)
    assert found["all"][HALF] == (3, 2, 9, 5)
    assert {bbox for (rule, _), bbox in zip(CUTS, found["all"], strict=True) if rule != "mean"} == {
        (3, 2, 9, 5)
    }


def test_the_crops_are_among_the_cuts():
    assert set(CROPS) <= set(CUTS)


def test_overlap_is_that_of_counted_pixels():
    truth = np.array([[0, 0, 4, 4], [5, 5, 9, 8]])

    def pixels(bbox):
        return {(y, x) for y in range(bbox[1], bbox[3]) for x in range(bbox[0], bbox[2])}

    for bbox in [(0, 0, 4, 4), (1, 2, 6, 7), (8, 0, 10, 3), (4, 4, 10, 10)]:
        wanted = max(len(pixels(bbox) & pixels(t)) / len(pixels(bbox) | pixels(t)) for t in truth)
        assert best_overlap(bbox, truth) == pytest.approx(wanted)
