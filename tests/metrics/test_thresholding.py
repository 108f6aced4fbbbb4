import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.core.errors import InputError
from saliencykit.metrics.thresholding import (
    LEVELS,
    best_overlaps,
    boxes_at,
    check_levels,
    component_boxes,
    largest_component,
    missing,
    thresholded,
)
from saliencykit.testing.strategies import masks


def slow_cut(values, rule, level):
    """Pixel by pixel; by energy: take the largest values until their sum reaches the share."""
    if rule == "value":
        return values >= level
    if rule == "range":
        low, high = min(values.flat), max(values.flat)
        return np.array(
            [[v >= low + np.float32(level) * (high - low) for v in row] for row in values]
        )
    if rule == "mean":
        return np.array([[v >= level * values.mean() for v in row] for row in values])
    total, least = 0.0, np.inf
    for v in sorted(map(float, values.flat), reverse=True):
        if values.max() == 0:
            break
        total, least = total + v, v
        if total >= level * values.astype(np.float64).sum() - 1e-12:
            break
    return values >= least


def slow_parts(inside):
    """Flood fill over the eight neighbors; sets of (y, x), by their first pixel."""
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


def around(part, shape):
    """The bounding box of a set of pixels."""
    if not part:
        return [0, 0, shape[1], shape[0]]
    y, x = zip(*part, strict=True)
    return [min(x), min(y), max(x) + 1, max(y) + 1]


def random_maps(count=3, size=(11, 13), seed=0):
    maps = torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed))
    maps[1] = (maps[1] * 4).round() / 4  # with ties
    return maps


@pytest.mark.parametrize("rule", LEVELS)
def test_thresholds_and_boxes_equal_slow_references(rule):
    maps, levels = random_maps(), LEVELS[rule]
    everything, largest = (
        boxes_at(maps, rule, levels, "all"),
        boxes_at(maps, rule, levels, "largest"),
    )
    for t, level in enumerate(levels):
        inside = thresholded(maps, rule, level)
        for i, one in enumerate(maps[:, 0].numpy()):
            wanted = slow_cut(one, rule, level)
            if not np.isclose(one, level * one.mean(), atol=1e-6).any() or rule != "mean":
                assert np.array_equal(inside[i, 0].numpy(), wanted), (rule, level)
            mine = inside[i, 0].numpy()
            parts = slow_parts(mine)
            assert everything[i, t].tolist() == around(set().union(*parts), mine.shape)
            assert largest[i, t].tolist() == around(max(parts, key=len, default=()), mine.shape)
            boxes = sorted(component_boxes(inside[i : i + 1])[0].tolist())
            assert boxes == (sorted(around(part, mine.shape) for part in parts) or [[0, 0, 13, 11]])


@given(
    masks(batch=2, size=(6, 7)),
    st.sampled_from(["value", "range", "energy", "mean"]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_higher_values_keep_fewer_pixels_and_higher_energies_more(maps, rule, one, other):
    low, high = sorted((one, other))
    small, large = (
        thresholded(maps, rule, level)
        for level in ((high, low) if rule != "energy" else (low, high))
    )
    assert bool((small <= large).all())


def test_energy_keeps_its_fraction_and_nothing_of_an_empty_map():
    maps = random_maps()
    for level in (0.2, 0.5, 1.0):
        held = (maps * thresholded(maps, "energy", level)).sum((1, 2, 3)) / maps.sum((1, 2, 3))
        assert bool((held >= level - 1e-6).all())
    assert not thresholded(torch.zeros(1, 1, 3, 3), "energy", 0.5).any()
    assert boxes_at(torch.zeros(1, 1, 3, 4), "energy", (0.5,), "largest").tolist() == [
        [[0, 0, 4, 3]]
    ]


def test_of_equally_large_components_the_first_is_taken():
    inside = torch.tensor([[[[False, True, False, True], [False, False, False, False]]]])
    assert largest_component(inside).nonzero().tolist() == [[0, 0, 0, 1]]
    assert not largest_component(torch.zeros(1, 1, 2, 2, dtype=torch.bool)).any()


def test_overlaps_equal_counted_pixels():
    truth = torch.tensor([[0.0, 0.0, 4.0, 4.0], [5.0, 5.0, 9.0, 8.0]])

    def pixels(bbox):
        return {
            (y, x)
            for y in range(int(bbox[1]), int(bbox[3]))
            for x in range(int(bbox[0]), int(bbox[2]))
        }

    boxes = torch.tensor([(0, 0, 4, 4), (1, 2, 6, 7), (8, 0, 10, 3), (4, 4, 10, 10)])
    wanted = [
        max(len(pixels(b) & pixels(t)) / len(pixels(b) | pixels(t)) for t in truth)
        for b in boxes.tolist()
    ]
    got, nothing = best_overlaps([boxes, boxes], [truth, torch.zeros(0, 4)])
    assert got.tolist() == pytest.approx(wanted)
    assert nothing.isnan().all()
    assert missing(torch.zeros(2, 1, 3, 3)).isnan().tolist() == [True, True]


@pytest.mark.parametrize(
    ("rule", "level"),
    [("value", 1.1), ("range", -0.1), ("mean", -1), ("energy", float("nan")), ("x", 0.5)],
)
def test_wrong_thresholds_are_refused(rule, level):
    with pytest.raises(InputError, match="who"):
        check_levels("who", rule, (0.5, level))
