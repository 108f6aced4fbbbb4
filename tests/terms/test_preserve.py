import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.core.errors import InputError
from saliencykit.terms.preserve import PreservedLogProbability, PreservedMargin
from saliencykit.testing.strategies import trials


@given(trials(reach=10), st.floats(-30, -0.1))
def test_log_probability_matches_a_loop_over_rows(trial, floor):
    slow = []
    for z, c in zip(trial.preserved.numpy(), trial.labels.tolist(), strict=True):
        p = np.exp(z[c]) / sum(np.exp(v) for v in z)
        slow.append(-max(np.log(p), floor))
    np.testing.assert_allclose(
        PreservedLogProbability(floor=floor)(trial).numpy(), slow, rtol=1e-9, atol=1e-9
    )


@given(trials(), st.floats(0, 10))
def test_margin_matches_a_loop_over_rows(trial, gap):
    slow = []
    for z, c in zip(trial.preserved.numpy(), trial.labels.tolist(), strict=True):
        runner_up = max(v for k, v in enumerate(z) if k != c)
        slow.append(max(0.0, runner_up - z[c] + gap))
    np.testing.assert_allclose(PreservedMargin(gap=gap)(trial).numpy(), slow, rtol=1e-9, atol=1e-9)


@given(trials(reach=1000))
def test_log_probabilities_are_clamped_at_the_floor(trial):
    penalty = PreservedLogProbability()(trial)
    assert (penalty >= 0).all()
    assert (penalty <= 20).all()


@pytest.mark.parametrize("floor", [0, 1.0, float("nan")])
def test_bad_floor(floor):
    with pytest.raises(InputError, match=r"floor=.* takes a number in \[-inf, 0\)"):
        PreservedLogProbability(floor=floor)


@pytest.mark.parametrize("gap", [-1, float("inf"), float("nan")])
def test_bad_gap(gap):
    with pytest.raises(InputError, match=r"gap=.* takes a number in \[0, inf\)"):
        PreservedMargin(gap=gap)


def test_they_read_logits():
    assert PreservedLogProbability.reads_logits
    assert PreservedMargin.reads_logits
