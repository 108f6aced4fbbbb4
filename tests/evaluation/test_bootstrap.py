import numpy as np
import pytest

from saliencykit.evaluation.bootstrap import interval, standard_error, weights


def test_the_interval_is_that_of_samples_with_repeats():
    """Drawn one by one with another generator: equal but for the draws."""
    values = np.random.default_rng(1).exponential(size=40)
    generator = np.random.default_rng(2)
    means = [np.mean([values[generator.integers(40)] for _ in range(40)]) for _ in range(4000)]
    mean, low, high = interval(values)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(np.percentile(means, 2.5), abs=0.04)
    assert high == pytest.approx(np.percentile(means, 97.5), abs=0.04)


def test_it_is_the_same_every_time_and_every_sample_is_whole():
    assert interval([0.0, 1.0, 1.0]) == interval([0.0, 1.0, 1.0])
    assert np.allclose(weights(7, 50).sum(1), 1)


def test_a_shift_of_every_photo_has_no_doubt():
    assert interval([0.25] * 30) == pytest.approx((0.25, 0.25, 0.25))


def test_standard_error_by_hand():
    values = [1.0, 2.0, 4.0]
    spread = (sum((v - 7 / 3) ** 2 for v in values) / 2) ** 0.5
    assert standard_error(values) == pytest.approx(spread / 3**0.5)
    assert standard_error([3.0]) == 0


def test_a_bound_that_is_zero_is_on_neither_side():
    assert interval([0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0])[1] == 0
    assert interval([0.1, -0.1, 0.1, -0.1])[1:] == pytest.approx((-0.1, 0.1))


def test_of_one_value_it_says_nothing_and_of_none_there_is_no_mean():
    mean, low, high = interval([2.0])
    assert mean == 2.0
    assert np.isnan([low, high]).all()
    assert np.isnan(interval([])).all()


def test_more_pictures_than_are_kept_at_once_give_the_same():
    values = np.random.default_rng(0).normal(size=500)
    _, low, high = interval(values)  # 10,000 x 500: in blocks
    means = weights(500) @ values
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
