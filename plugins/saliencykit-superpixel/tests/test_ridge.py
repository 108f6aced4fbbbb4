import numpy as np
import pytest
import torch
from saliencykit_superpixel.ridge import ridge


def problem(n=40, k=6, noise=0.1):
    random = np.random.RandomState(0)
    sets, weights = (random.rand(n, k) < 0.5).astype(float), random.rand(n) + 0.1
    return sets, sets @ random.randn(k) + 3 + noise * random.randn(n), weights


def slow(sets, targets, weights, penalty_weight):
    """The normal equations with the intercept as a column of ones, which has no penalty."""
    design = np.concatenate([np.ones((len(sets), 1)), sets], 1)
    penalty = np.diag([0.0] + [penalty_weight] * sets.shape[1])
    scaled = design.T * weights
    return np.linalg.solve(scaled @ design + penalty, scaled @ targets)[1:]


@pytest.mark.parametrize("penalty_weight", [1e-6, 0.3, 1.0, 50.0])
def test_slopes_solve_the_normal_equations(penalty_weight):
    sets, targets, weights = problem()
    slopes, error = ridge(*map(torch.from_numpy, (sets, targets, weights)), penalty_weight)
    assert np.allclose(slopes.numpy(), slow(sets, targets, weights, penalty_weight), atol=1e-8)
    assert bool((error >= 0).all())


def test_the_penalty_is_the_one_of_least_cross_validation_score():
    sets, targets, _ = problem(noise=1.0)
    ones = np.ones(len(sets))
    slopes, _ = ridge(*map(torch.from_numpy, (sets, targets, ones)))

    def score(penalty_weight):
        """Golub's equation 1.3, with the hat matrix written out."""
        design = sets - sets.mean(0)
        hat = design @ np.linalg.solve(
            design.T @ design + penalty_weight * np.eye(sets.shape[1]), design.T
        )
        centered = targets - targets.mean()
        return ((centered - hat @ centered) ** 2).sum() / (1 - (1 + np.trace(hat)) / len(sets)) ** 2

    centered = sets - sets.mean(0)
    tried = np.trace(centered.T @ centered) / sets.shape[1] * np.logspace(-4, 4, 41)
    best = min(tried, key=score)
    assert np.allclose(slopes.numpy(), slow(sets, targets, ones, best), atol=1e-8)


def test_errors_cover_the_true_slopes():
    random = np.random.RandomState(1)
    truth, outside = np.linspace(-1, 1, 8), 0
    for _ in range(50):
        sets = (random.rand(200, 8) < 0.5).astype(float)
        targets = sets @ truth + 0.5 * random.randn(200)
        slopes, error = ridge(
            torch.from_numpy(sets), torch.from_numpy(targets), torch.ones(200, dtype=torch.float64)
        )
        outside += int(
            ((slopes.numpy() - truth) / error.numpy() > 2).sum()
            + ((slopes.numpy() - truth) / error.numpy() < -2).sum()
        )
    assert 0.01 < outside / 400 < 0.1  # 5 % in theory


@pytest.mark.parametrize(
    "targets", [torch.full((9,), 0.3, dtype=torch.float64), torch.arange(9.0, dtype=torch.float64)]
)
@pytest.mark.parametrize(
    "sets", [torch.ones(9, 3, dtype=torch.float64), torch.zeros(9, 1, dtype=torch.float64)]
)
@pytest.mark.parametrize("penalty_weight", [None, 0.0, 1.0])
def test_uninformative_sets_give_slopes_of_zero(sets, targets, penalty_weight):
    slopes, error = ridge(sets, targets, torch.ones(9, dtype=torch.float64), penalty_weight)
    assert torch.equal(slopes, torch.zeros_like(slopes))
    assert bool((error >= 0).all())
