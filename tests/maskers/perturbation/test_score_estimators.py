"""Maps from masks and answers: a plain sum, a plain ridge regression, and the exact answer where it
is known.
"""

import pytest
import torch
from torch import Generator

from saliencykit.maskers.perturbation.random_masks import draw_masks, similarity
from saliencykit.maskers.perturbation.score_estimators import (
    GROUPS,
    MeanEstimator,
    RegressionEstimator,
)

SIZE, CELLS, KEEP = (12, 14), 3, 0.4
DEMAND = torch.rand(SIZE, generator=Generator().manual_seed(1), dtype=torch.float64).square() / 60


def filled(estimate, samples, answer, seed=0, sampling="random"):
    like = torch.zeros(())
    found = (
        MeanEstimator(SIZE, KEEP, like)
        if estimate == "mean"
        else RegressionEstimator(SIZE, CELLS, KEEP, like)
    )
    shown = []
    for part in draw_masks(
        torch.ones(1, 1, *SIZE),
        samples,
        CELLS,
        KEEP,
        sampling,
        generator=Generator().manual_seed(seed),
    ):
        masks = part.masks()[:, 0]
        shown.append(masks)
        found.add(part, answer(masks))
    return found, torch.cat(shown)


def linear(masks):
    return (masks * DEMAND.float()).sum((1, 2))


def crooked(masks):
    return (linear(masks) * 3).sigmoid() + 0.1 * (masks[:, 3, 3] * masks[:, 9, 9])


def test_the_mean_is_a_plain_loop():
    found, masks = filled("mean", 300, crooked)
    y = crooked(masks)
    slow = sum((y[i] - y.mean()) * (masks[i] - masks.mean(0)) for i in range(300)) / 300 / KEEP
    assert torch.allclose(found.scores(), slow, atol=1e-6)


def test_a_linear_answer_gets_its_exact_covariance_from_a_few_hundred_masks():
    found, _ = filled("linear", 400, linear)
    exact = (1 - KEEP) * similarity(SIZE[0], CELLS) @ DEMAND @ similarity(SIZE[1], CELLS)
    assert (found.scores() - exact).abs().max() < 0.01 * exact.max()
    assert found.agreement() > 0.999


def test_both_tend_to_the_same_map():
    one, other = (
        filled(estimate, 30000, crooked)[0].scores().double() for estimate in ("linear", "mean")
    )
    assert (one - other).abs().max() < 0.03 * other.abs().max()


def test_ridge_is_the_plain_formula_with_the_strength_of_least_cross_validation():
    """In all pixels: (X'X + s)^-1 X'y, with s from leave-it-out scores; the patterns left out make
    a small difference.
    """
    found, masks = filled("linear", 150, crooked)
    x = (masks.flatten(1) - masks.flatten(1).mean(0)).double()
    y = crooked(masks).double()
    y = y - y.mean()
    best = None
    for strength in torch.logspace(-3, 3, 61, dtype=torch.float64) * x.square().sum() / 149:
        inverse = torch.linalg.inv(x @ x.T + strength * torch.eye(150))
        hat = x @ x.T @ inverse
        score = (y - hat @ y).square().sum() / (1 - (1 + hat.trace()) / 150) ** 2
        if best is None or score < best[0]:
            best = (score, x.T @ inverse @ y)
    slow = (1 - KEEP) * similarity(SIZE[0], CELLS) @ best[1].view(SIZE) @ similarity(SIZE[1], CELLS)
    assert (found.scores() - slow).abs().max() < 0.03 * slow.abs().max()


@pytest.mark.parametrize("estimate", ["linear", "mean"])
def test_agreement_foretells_the_correlation_with_endless_samples(estimate):
    endless = filled("linear", 30000, crooked)[0].scores().flatten()
    told, true = [], []
    for seed in range(1, 13):
        found, _ = filled(estimate, 300, crooked, seed)
        told.append(found.agreement())
        true.append(torch.corrcoef(torch.stack([found.scores().double().flatten(), endless]))[0, 1])
    assert abs(sum(told) / 12 - float(sum(true)) / 12) < 0.05


@pytest.mark.parametrize("estimate", ["linear", "mean"])
def test_order_and_chunks_make_no_difference_to_groups(estimate):
    whole, _ = filled(estimate, 128, crooked)
    like = torch.zeros(())
    found = (
        MeanEstimator(SIZE, KEEP, like)
        if estimate == "mean"
        else RegressionEstimator(SIZE, CELLS, KEEP, like)
    )
    (block,) = draw_masks(
        torch.ones(1, 1, *SIZE), 128, CELLS, KEEP, "random", generator=Generator().manual_seed(0)
    )
    for at in range(0, 128, 10):
        part = block[at : at + 10]
        found.add(part, crooked(part.masks()[:, 0]))
    assert torch.allclose(found.scores(), whole.scores(), atol=1e-5)
    assert torch.allclose(found.error(), whole.error(), rtol=1e-3, atol=1e-6)
    assert found.agreement() == pytest.approx(whole.agreement(), abs=1e-3)


@pytest.mark.parametrize("estimate", ["linear", "mean"])
@pytest.mark.parametrize("samples", [1, 2, 3, 2 * GROUPS])
def test_few_and_equal_answers_stay_finite(estimate, samples):
    found, _ = filled(estimate, samples, crooked)
    assert torch.isfinite(found.scores()).all()
    same, _ = filled(estimate, samples, lambda masks: torch.full((len(masks),), 0.25))
    assert same.scores().abs().max() < 1e-6
    assert same.mean_answer() == pytest.approx(0.25)
