import numpy as np
import pytest
import torch
from saliencykit_superpixel.ridge import ridge


def problem(n=40, k=6, noise=0.1):
    random = np.random.RandomState(0)
    sets, weights = (random.rand(n, k) < 0.5).astype(float), random.rand(n) + 0.1
    return sets, sets @ random.randn(k) + 3 + noise * random.randn(n), weights


def slow(sets, answers, weights, strength):
    """The normal equations with the intercept as a column of ones, which has no penalty."""
    design = np.concatenate([np.ones((len(sets), 1)), sets], 1)
    penalty = np.diag([0.0] + [strength] * sets.shape[1])
    scaled = design.T * weights
    return np.linalg.solve(scaled @ design + penalty, scaled @ answers)[1:]


@pytest.mark.parametrize("strength", [1e-6, 0.3, 1.0, 50.0])
def test_slopes_solve_the_normal_equations(strength):
    sets, answers, weights = problem()
    found, error = ridge(*map(torch.from_numpy, (sets, answers, weights)), strength)
    assert np.allclose(found.numpy(), slow(sets, answers, weights, strength), atol=1e-8)
    assert bool((error >= 0).all())


def test_the_penalty_is_the_one_of_least_cross_validation_score():
    sets, answers, _ = problem(noise=1.0)
    ones = np.ones(len(sets))
    found, _ = ridge(*map(torch.from_numpy, (sets, answers, ones)))

    def score(strength):
        """Golub's equation 1.3, with the hat matrix written out."""
        design = sets - sets.mean(0)
        hat = design @ np.linalg.solve(
            design.T @ design + strength * np.eye(sets.shape[1]), design.T
        )
        centred = answers - answers.mean()
        return ((centred - hat @ centred) ** 2).sum() / (1 - (1 + np.trace(hat)) / len(sets)) ** 2

    centred = sets - sets.mean(0)
    tried = np.trace(centred.T @ centred) / sets.shape[1] * np.logspace(-4, 4, 41)
    best = min(tried, key=score)
    assert np.allclose(found.numpy(), slow(sets, answers, ones, best), atol=1e-8)


def test_errors_cover_the_true_slopes():
    random = np.random.RandomState(1)
    truth, outside = np.linspace(-1, 1, 8), 0
    for _ in range(50):
        sets = (random.rand(200, 8) < 0.5).astype(float)
        answers = sets @ truth + 0.5 * random.randn(200)
        found, error = ridge(
            torch.from_numpy(sets), torch.from_numpy(answers), torch.ones(200, dtype=torch.float64)
        )
        outside += int(
            ((found.numpy() - truth) / error.numpy() > 2).sum()
            + ((found.numpy() - truth) / error.numpy() < -2).sum()
        )
    assert 0.01 < outside / 400 < 0.1  # 5 % in theory


@pytest.mark.parametrize(
    "answers", [torch.full((9,), 0.3, dtype=torch.float64), torch.arange(9.0, dtype=torch.float64)]
)
@pytest.mark.parametrize(
    "sets", [torch.ones(9, 3, dtype=torch.float64), torch.zeros(9, 1, dtype=torch.float64)]
)
@pytest.mark.parametrize("strength", [None, 0.0, 1.0])
def test_uninformative_sets_give_slopes_of_zero(sets, answers, strength):
    found, error = ridge(sets, answers, torch.ones(9, dtype=torch.float64), strength)
    assert torch.equal(found, torch.zeros_like(found))
    assert bool((error >= 0).all())
