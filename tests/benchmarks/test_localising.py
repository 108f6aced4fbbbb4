"""Cuts, boxes and overlaps against slow numpy versions."""

import numpy as np
import pytest

from benchmarks.localising import CROPS, CUTS, HALF, best_overlap, boxes_of, cut, largest_component, tight_box


def random_map(seed, side=12):
    return np.random.default_rng(seed).random((side, side + 3)).astype(np.float32)


def slow_cut(values, rule, level):
    """Pixel by pixel; by energy: take the largest values until their sum reaches the share."""
    if rule == "value":
        low, high = min(values.flat), max(values.flat)
        return np.array([[v >= low + level * (high - low) for v in row] for row in values])
    if rule == "mean":
        return np.array([[v >= level * values.mean() for v in row] for row in values])
    total, least = 0.0, None
    for v in sorted(map(float, values.flat), reverse=True):
        total, least = total + v, v
        if total >= level * values.astype(np.float64).sum() - 1e-9:
            break
    return values >= least


def slow_components(inside):
    """Flood fill over the eight neighbours."""
    left, parts = set(zip(*map(list, inside.nonzero()), strict=True)), []
    while left:
        part, front = set(), [min(left)]
        while front:
            pixel = front.pop()
            if pixel in left:
                left.discard(pixel)
                part.add(pixel)
                front += [(pixel[0] + dy, pixel[1] + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        parts.append(part)
    return parts


@pytest.mark.parametrize("seed", range(3))
def test_every_cut_and_box_is_the_slow_one(seed):
    values = random_map(seed)
    found = boxes_of(values)
    for (rule, level), everything, largest in zip(CUTS, found["all"], found["largest"], strict=True):
        inside = slow_cut(values, rule, level)
        assert np.array_equal(cut(values, rule, level), inside), (rule, level)
        if not inside.any():
            assert everything == largest == (0, 0, 15, 12)
            continue
        y, x = inside.nonzero()
        assert everything == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        part = max(slow_components(inside), key=len)
        assert largest_component(inside).sum() == len(part)
        if [len(p) for p in slow_components(inside)].count(len(part)) == 1:
            y, x = np.array(sorted(part)).T
            assert largest == (x.min(), y.min(), x.max() + 1, y.max() + 1)


def test_flat_and_empty_maps_are_the_whole_photo():
    assert set(boxes_of(np.zeros((5, 7)))["all"]) == {(0, 0, 7, 5)}
    assert set(boxes_of(np.ones((5, 7)))["largest"]) == {(0, 0, 7, 5)}
    assert tight_box(np.zeros((5, 7), dtype=bool)) == (0, 0, 7, 5)


def test_a_box_is_found_at_every_threshold_below_its_value():
    values = np.zeros((10, 10))
    values[2:5, 3:9] = 1
    found = boxes_of(values)
    assert found["all"][HALF] == (3, 2, 9, 5)
    assert {box for (rule, _), box in zip(CUTS, found["all"], strict=True) if rule != "mean"} == {(3, 2, 9, 5)}


def test_the_crops_are_among_the_cuts():
    assert set(CROPS) <= set(CUTS)


def test_overlap_is_that_of_counted_pixels():
    truth = np.array([[0, 0, 4, 4], [5, 5, 9, 8]])

    def pixels(box):
        return {(y, x) for y in range(box[1], box[3]) for x in range(box[0], box[2])}

    for box in [(0, 0, 4, 4), (1, 2, 6, 7), (8, 0, 10, 3), (4, 4, 10, 10)]:
        wanted = max(len(pixels(box) & pixels(t)) / len(pixels(box) | pixels(t)) for t in truth)
        assert best_overlap(box, truth) == pytest.approx(wanted)
