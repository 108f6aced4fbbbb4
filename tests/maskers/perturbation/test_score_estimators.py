"""The estimators against a plain sum, a plain ridge regression, and the exact map of a linear
response.
"""

import pytest
import torch
from torch import Generator

from saliencykit.maskers.perturbation.random_masks import draw_masks, side_covariance
from saliencykit.maskers.perturbation.score_estimators import (
    GROUPS,
    MeanEstimator,
    RegressionEstimator,
)

SIZE, CELLS, KEEP = (12, 14), 3, 0.4
WEIGHTS = torch.rand(SIZE, generator=Generator().manual_seed(1), dtype=torch.float64).square() / 60


def filled(estimate, samples, response, seed=0, sampling="random"):
    like = torch.zeros(())
    estimator = (
        MeanEstimator(SIZE, KEEP, like)
        if estimate == "mean"
        else RegressionEstimator(SIZE, CELLS, KEEP, like)
    )
    drawn = []
    for part in draw_masks(
        torch.ones(1, 1, *SIZE),
        samples,
        CELLS,
        KEEP,
        sampling,
        generator=Generator().manual_seed(seed),
    ):
        masks = part.masks()[:, 0]
        drawn.append(masks)
        estimator.update(part, response(masks))
    return estimator, torch.cat(drawn)


def linear(masks):
    return (masks * WEIGHTS.float()).sum((1, 2))


def nonlinear(masks):
    return (linear(masks) * 3).sigmoid() + 0.1 * (masks[:, 3, 3] * masks[:, 9, 9])


def test_the_mean_estimator_equals_a_plain_loop():
    estimator, masks = filled("mean", 300, nonlinear)
    y = nonlinear(masks)
    slow = sum((y[i] - y.mean()) * (masks[i] - masks.mean(0)) for i in range(300)) / 300 / KEEP
    assert torch.allclose(estimator.attributions(), slow, atol=1e-6)


def test_regression_finds_the_exact_covariance_of_a_linear_response_from_a_few_hundred_masks():
    estimator, _ = filled("linear", 400, linear)
    exact = (1 - KEEP) * side_covariance(SIZE[0], CELLS) @ WEIGHTS @ side_covariance(SIZE[1], CELLS)
    assert (estimator.attributions() - exact).abs().max() < 0.01 * exact.max()
    assert estimator.expected_correlation() > 0.999


def test_both_estimators_converge_to_the_same_map():
    one, other = (
        filled(estimate, 30000, nonlinear)[0].attributions().double()
        for estimate in ("linear", "mean")
    )
    assert (one - other).abs().max() < 0.03 * other.abs().max()


def test_the_ridge_penalty_is_the_one_of_least_cross_validation_score():
    """On all pixels: (X'X + s)^-1 X'y; the patterns that are left out make a small difference."""
    estimator, masks = filled("linear", 150, nonlinear)
    x = (masks.flatten(1) - masks.flatten(1).mean(0)).double()
    y = nonlinear(masks).double()
    y = y - y.mean()
    best = None
    for strength in torch.logspace(-3, 3, 61, dtype=torch.float64) * x.square().sum() / 149:
        inverse = torch.linalg.inv(x @ x.T + strength * torch.eye(150))
        hat = x @ x.T @ inverse
        score = (y - hat @ y).square().sum() / (1 - (1 + hat.trace()) / 150) ** 2
        if best is None or score < best[0]:
            best = (score, x.T @ inverse @ y)
    slow = (
        (1 - KEEP)
        * side_covariance(SIZE[0], CELLS)
        @ best[1].view(SIZE)
        @ side_covariance(SIZE[1], CELLS)
    )
    assert (estimator.attributions() - slow).abs().max() < 0.03 * slow.abs().max()


@pytest.mark.parametrize("estimate", ["linear", pytest.param("mean", marks=pytest.mark.slow)])
def test_expected_correlation_predicts_the_correlation_with_many_samples(estimate):
    converged = filled("linear", 30000, nonlinear)[0].attributions().flatten()
    predicted, true = [], []
    for seed in range(1, 13):
        estimator, _ = filled(estimate, 300, nonlinear, seed)
        predicted.append(estimator.expected_correlation())
        true.append(
            torch.corrcoef(torch.stack([estimator.attributions().double().flatten(), converged]))[
                0, 1
            ]
        )
    assert abs(sum(predicted) / 12 - float(sum(true)) / 12) < 0.05


@pytest.mark.parametrize("estimate", ["linear", "mean"])
def test_updates_in_chunks_give_the_same_result(estimate):
    whole, _ = filled(estimate, 128, nonlinear)
    like = torch.zeros(())
    estimator = (
        MeanEstimator(SIZE, KEEP, like)
        if estimate == "mean"
        else RegressionEstimator(SIZE, CELLS, KEEP, like)
    )
    (block,) = draw_masks(
        torch.ones(1, 1, *SIZE), 128, CELLS, KEEP, "random", generator=Generator().manual_seed(0)
    )
    for at in range(0, 128, 10):
        part = block[at : at + 10]
        estimator.update(part, nonlinear(part.masks()[:, 0]))
    assert torch.allclose(estimator.attributions(), whole.attributions(), atol=1e-5)
    assert torch.allclose(estimator.standard_error(), whole.standard_error(), rtol=1e-3, atol=1e-6)
    assert estimator.expected_correlation() == pytest.approx(whole.expected_correlation(), abs=1e-3)


@pytest.mark.parametrize("estimate", ["linear", "mean"])
@pytest.mark.parametrize("samples", [1, 2, 3, 2 * GROUPS])
def test_few_samples_and_constant_responses_stay_finite(estimate, samples):
    estimator, _ = filled(estimate, samples, nonlinear)
    assert torch.isfinite(estimator.attributions()).all()
    same, _ = filled(estimate, samples, lambda masks: torch.full((len(masks),), 0.25))
    assert same.attributions().abs().max() < 1e-6
    assert same.mean_evidence() == pytest.approx(0.25)
