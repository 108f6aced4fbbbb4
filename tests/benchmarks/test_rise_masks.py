"""How many masks: the counting, and the maps after so many, on a black box whose map is known."""

import torch
from torch import Generator

from benchmarks.rise_masks import (
    ESTIMATES,
    STEPS,
    Published,
    correlation,
    filled,
    first_stop,
    needed,
)
from saliencykit.maskers.perturbation.random_masks import FactoredMasks, draw_masks
from saliencykit.maskers.perturbation.score_estimators import MeanEstimator, RegressionEstimator

SIZE = (24, 24)


def queried(samples):
    parts = list(
        draw_masks(
            torch.ones(1, 1, *SIZE), samples, 7, 0.5, "random", generator=Generator().manual_seed(0)
        )
    )
    masks = FactoredMasks(torch.cat([p.left for p in parts]), torch.cat([p.right for p in parts]))
    return masks, masks.masks()[:, 0, 4:10, 4:10].mean((1, 2))


def test_the_published_sum_is_a_plain_loop():
    masks, answers = queried(128)
    slow = sum(y * m for y, m in zip(answers, masks.masks()[:, 0], strict=True)) / 128 / 0.5
    found = filled(Published(SIZE, 0.5, torch.zeros(())), masks, answers, 128)
    assert torch.allclose(found[128], slow, atol=1e-5)


def test_maps_come_after_every_step_and_better_estimates_are_better():
    masks, answers = queried(512)
    truth = filled(MeanEstimator(SIZE, 0.5, torch.zeros(())), *queried(8192), 8192)[8192].flatten()
    scores = {}
    for name, (sampling, make) in ESTIMATES.items():
        if sampling == "random":
            maps = filled(make(SIZE), masks, answers, 512)
            assert list(maps) == [step for step in STEPS if step <= 512]
            scores[name] = [correlation(found.flatten(), truth) for found in maps.values()]
    plain, centered, regression = scores.values()
    assert plain[0] < centered[0] < regression[0]
    assert regression[-1] > 0.98


def test_needed_is_the_step_from_which_on_it_stays():
    means = dict.fromkeys(STEPS, 0.96)
    assert needed(means) == "128"
    assert needed(means | {256: 0.94}) == "320"
    assert needed(means | {4096: 0.9}) == "more than 4096"


def test_the_stop_is_at_a_look():
    found = RegressionEstimator((7, 7), 7, 0.5, torch.zeros(()))
    masks = next(
        draw_masks(
            torch.ones(1, 1, 7, 7), 256, 7, 0.5, "random", generator=Generator().manual_seed(0)
        )
    )
    assert first_stop(found, masks, masks.masks()[:, 0, 2:4, 2:4].mean((1, 2))) == 256
