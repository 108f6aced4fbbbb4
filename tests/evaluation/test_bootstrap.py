import numpy as np
import pytest

from saliencykit.evaluation.bootstrap import interval, standard_error, weights


def test_the_interval_equals_that_of_explicit_resamples():
    """Drawn one by one with another generator: equal but for the draws."""
    values = np.random.default_rng(1).exponential(size=40)
    generator = np.random.default_rng(2)
    means = [np.mean([values[generator.integers(40)] for _ in range(40)]) for _ in range(4000)]
    mean, low, high = interval(values)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(np.percentile(means, 2.5), abs=0.04)
    assert high == pytest.approx(np.percentile(means, 97.5), abs=0.04)


def test_it_is_deterministic_and_weights_sum_to_one():
    assert interval([0.0, 1.0, 1.0]) == interval([0.0, 1.0, 1.0])
    assert np.allclose(weights(7, 50).sum(1), 1)


def test_constant_values_have_an_interval_of_one_point():
    assert interval([0.25] * 30) == pytest.approx((0.25, 0.25, 0.25))


def test_the_standard_error_equals_a_hand_computed_one():
    values = [1.0, 2.0, 4.0]
    spread = (sum((v - 7 / 3) ** 2 for v in values) / 2) ** 0.5
    assert standard_error(values) == pytest.approx(spread / 3**0.5)
    assert standard_error([3.0]) == 0


def test_an_end_that_is_zero_up_to_rounding_is_zero():
    assert interval([0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0])[1] == 0
    assert interval([0.1, -0.1, 0.1, -0.1])[1:] == pytest.approx((-0.1, 0.1))


def test_one_value_has_no_interval_and_none_no_mean():
    mean, low, high = interval([2.0])
    assert mean == 2.0
    assert np.isnan([low, high]).all()
    assert np.isnan(interval([])).all()


def test_large_samples_in_blocks_give_the_same_interval():
    values = np.random.default_rng(0).normal(size=500)
    _, low, high = interval(values)  # 10,000 x 500: in blocks
    means = weights(500) @ values
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
