import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.core.errors import InputError
from saliencykit.core.objective import Trial
from saliencykit.terms.destroy import DestroyedMargin, DestroyedProbability
from saliencykit.testing.strategies import trials


@given(trials(reach=8), st.floats(0.05, 3))
def test_probability_matches_a_loop_over_rows(trial, power):
    slow = []
    for z, c in zip(trial.destroyed.numpy(), trial.labels.tolist(), strict=True):
        p = np.exp(z[c]) / sum(np.exp(v) for v in z)
        slow.append(p**power)
    np.testing.assert_allclose(
        DestroyedProbability(power=power)(trial).numpy(), slow, rtol=1e-9, atol=1e-12
    )


@given(trials(), st.floats(0, 10))
def test_margin_matches_a_loop_over_rows(trial, gap):
    slow = []
    for z, c in zip(trial.destroyed.numpy(), trial.labels.tolist(), strict=True):
        winner = max(v for k, v in enumerate(z) if k != c)
        slow.append(max(0.0, gap - (winner - z[c])))
    np.testing.assert_allclose(DestroyedMargin(gap=gap)(trial).numpy(), slow, rtol=1e-9, atol=1e-9)


@given(trials(reach=1000))
def test_it_is_a_finite_power_of_a_probability(trial):
    penalty = DestroyedProbability()(trial)
    assert (penalty > 0).all()  # exp(0.3 * floor): below the floor nothing is won
    assert (penalty <= 1 + 1e-12).all()


def test_the_gradient_stays_finite_for_a_probability_of_0():
    logits = torch.tensor([[-2000.0, 0.0], [-15.0, 0.0]], requires_grad=True)
    none = torch.zeros(2, 1, 1, 1)
    trial = Trial(
        none,
        torch.zeros(2, dtype=torch.int64),
        torch.ones(2, dtype=torch.bool),
        none,
        logits,
        logits,
    )
    (slope,) = torch.autograd.grad(DestroyedProbability()(trial).sum(), logits)
    assert torch.isfinite(slope).all()
    assert not slope[0].any()
    assert slope[1, 0] > 0


@pytest.mark.parametrize("power", [0, -1, float("inf"), float("nan")])
def test_bad_power(power):
    with pytest.raises(InputError, match=r"power=.* takes a number in \(0, inf\)"):
        DestroyedProbability(power=power)


def test_bad_floor_and_gap():
    for floor in (0, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"floor=.* takes a number in \[-inf, 0\)"):
            DestroyedProbability(floor=floor)
    for gap in (-1, float("inf"), float("nan")):
        with pytest.raises(InputError, match=r"gap=.* takes a number in \[0, inf\)"):
            DestroyedMargin(gap=gap)


def test_they_read_logits():
    assert DestroyedProbability.reads_logits
    assert DestroyedMargin.reads_logits
