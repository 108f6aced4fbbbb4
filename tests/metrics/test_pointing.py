import numpy as np
import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.metrics.pointing import (
    EnergyPointingGame,
    PointingGame,
    box_pixels,
    near_boxes,
    near_region,
)
from tests.metrics.test_localization import TRUTH, sample_and_masks, score


def inside(bbox, y, x):
    return bbox[0] <= x + 0.5 < bbox[2] and bbox[1] <= y + 0.5 < bbox[3]


def slow_pointing(mask, boxes, tolerance):
    """Does a disc of that radius around a maximum contain a pixel of a box? Averaged over all
    that are largest.
    """
    hits = []
    for y, x in zip(*np.nonzero(mask == mask.max()), strict=True):
        reach = [
            (v, u)
            for v in range(mask.shape[0])
            for u in range(mask.shape[1])
            if (v - y) ** 2 + (u - x) ** 2 <= tolerance**2
        ]
        hits.append(any(inside(bbox, v, u) for bbox in boxes for v, u in reach))
    return np.mean(hits)


@pytest.mark.parametrize("tolerance", [0, 1, 2.5, 4])
def test_the_pointing_game_equals_a_slow_reference(tolerance):
    for seed in range(6):
        sample, mask = sample_and_masks(seed)
        mask = (mask * 5).round() / 5 if seed % 2 else mask  # with ties
        got = score(PointingGame(tolerance=tolerance), sample, mask)["PointingGame"]
        for i, boxes in enumerate(sample.boxes):
            if len(boxes):
                assert got[i].item() == pytest.approx(
                    slow_pointing(mask[i, 0].numpy(), boxes.tolist(), tolerance), abs=1e-6
                )
            else:
                assert got[i].isnan()


def test_the_energy_pointing_game_equals_a_slow_reference():
    sample, mask = sample_and_masks()
    got = score(EnergyPointingGame(), sample, mask)["EnergyPointingGame"]
    for i, boxes in enumerate(TRUTH):
        if not len(boxes):
            assert got[i].isnan()
            continue
        one = mask[i, 0].numpy()
        held = sum(
            one[y, x]
            for y in range(16)
            for x in range(16)
            if any(inside(bbox, y, x) for bbox in boxes.tolist())
        )
        assert got[i].item() == pytest.approx(held / one.sum(), abs=1e-6)


def test_constant_and_empty_masks_score_the_area_of_the_boxes():
    sample, mask = sample_and_masks()
    area = box_pixels(TRUTH, mask).float().mean((1, 2, 3))
    for value in (0.0, 0.3, 1.0):
        flat = torch.full_like(mask, value)
        got = score(EnergyPointingGame(), sample, flat)["EnergyPointingGame"]
        points = score(PointingGame(tolerance=0), sample, flat)["PointingGame"]
        for i in (0, 1, 3):
            assert [got[i].item(), points[i].item()] == pytest.approx(
                [area[i].item()] * 2, abs=1e-6
            )
    # 15 pixels of 16
    assert score(PointingGame(), sample, mask)["PointingGame"][[0, 1, 3]].tolist() == [
        1,
        1,
        1,
    ]


def test_a_box_thinner_than_a_pixel_can_be_hit():
    like = torch.zeros(1, 1, 4, 4)
    near = near_boxes((torch.tensor([[1.4, 0.0, 1.6, 4.0]]),), like, 0.5)
    assert near[0, 0].any(0).tolist() == [False, True, False, False]


def test_without_boxes_scores_are_nan():
    sample, mask = sample_and_masks()
    for metric in (PointingGame(), EnergyPointingGame()):
        (got,) = score(metric, Sample(sample.images, sample.labels), mask).values()
        assert got.isnan().all()


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_the_tolerance_is_checked(tolerance):
    with pytest.raises(InputError, match="PointingGame"):
        PointingGame(tolerance=tolerance)


def test_the_pointing_game_equals_torchrays():
    game = pytest.importorskip("torchray.benchmark.pointing_game").PointingGame
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 1, 48, 60, generator=g)
    corners = torch.randint(0, 40, (40, 2, 2), generator=g)
    boxes = tuple(torch.cat([some.amin(0), some.amax(0) + 4])[None].float() for some in corners)
    sample = Sample(torch.rand(40, 3, 48, 60), torch.zeros(40, dtype=torch.int64), boxes)
    # theirs is <, ours <=; no pixels are so far apart
    got = score(PointingGame(tolerance=7.9), sample, mask)["PointingGame"]
    for i, there in enumerate(box_pixels(boxes, mask)):
        y, x = divmod(int(mask[i].argmax()), 60)
        assert got[i].item() == (game(1, tolerance=8).evaluate(there[0], (x, y)) + 1) / 2
    assert 0 < got.mean() < 1


def test_regions_of_any_shape_count_in_place_of_boxes():
    mask = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(3, 1, 12, 12)
    region[:2, 0] = torch.ones(12, 12).triu()
    region[1] *= 0.5  # a soft region
    sample = Sample(torch.rand(3, 3, 12, 12), torch.zeros(3, dtype=torch.long), inside=region)
    got = score(EnergyPointingGame(), sample, mask)["EnergyPointingGame"]
    share = float((mask[0, 0].numpy() * np.triu(np.ones((12, 12)))).sum() / mask[0].sum())
    assert got[0].item() == pytest.approx(share, rel=1e-5)
    assert got[1].item() == pytest.approx(
        float((mask[1, 0] * region[1, 0]).sum() / mask[1].sum()), rel=1e-5
    )
    assert got[2].isnan()  # nothing is known


def test_pixels_near_a_region_are_those_near_its_pixels():
    region = torch.rand(2, 1, 9, 11, generator=torch.Generator().manual_seed(1)).round()
    near = near_region(region, 2.3)
    for i in range(2):
        rows, columns = np.nonzero(region[i, 0].numpy())
        for y, x in np.ndindex(9, 11):
            expected = (np.hypot(rows - y, columns - x) <= 2.3).any()
            assert bool(near[i, 0, y, x]) == expected
