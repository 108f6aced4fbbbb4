"""Confidence intervals (percentile bootstrap) and standard errors of means over images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import nan
from typing import Any

import numpy as np

RESAMPLES = 10_000
_BLOCK = 4_000_000  # weights at a time, 32 MB

Values = np.ndarray[Any, np.dtype[np.float64]]


def weights(count: int, resamples: int = RESAMPLES, seed: int = 0) -> Values:
    """The weight of each image in each bootstrap sample, (resamples, count); rows sum to 1.

    Args:
        count: Number of images, >= 1.
        resamples: Number of bootstrap samples, each of `count` images with replacement.
        seed: Random seed.
    """
    return np.concatenate(list(_blocks(count, resamples, seed)))


def interval(
    values: Sequence[float] | Values, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Mean with a 95% confidence interval (percentile bootstrap): mean, low, high.

    For a paired comparison pass the differences. Values must be finite. The interval of a single
    value is NaN, and so is everything of none.

    Args:
        values: One per image.
        resamples: Number of bootstrap samples.
        seed: Random seed.

    Example:
        >>> interval([0.25] * 30)
        (0.25, 0.25, 0.25)

    References:
        Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3, the percentile
        interval.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return float(numbers.mean()) if len(numbers) else nan, nan, nan
    mean = float(numbers.mean())
    blocks: Callable[[int, int, int], Iterable[Values]]
    blocks = _cached if resamples * len(numbers) <= _BLOCK else _blocks
    # resampled deviations, so that constant values have an interval of exactly one point
    means = [block @ (numbers - mean) for block in blocks(len(numbers), resamples, seed)]
    ends = mean + np.percentile(np.concatenate(means), [2.5, 97.5])
    # an end that is 0 up to rounding must not fall on one side of it
    rounding = 1e-12 * float(np.abs(numbers).max())
    low, high = (float(end) if abs(end) > rounding else 0.0 for end in ends)
    return mean, low, high


def standard_error(values: Sequence[float] | Values) -> float:
    """The standard error of the mean; 0 for a single value.

    Args:
        values: One per image, finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.std(ddof=1) / len(numbers) ** 0.5) if len(numbers) > 1 else 0.0


def _blocks(count: int, resamples: int, seed: int) -> Iterator[Values]:
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // count)
    even = np.full(count, 1 / count)
    for first in range(0, resamples, step):
        yield generator.multinomial(count, even, size=min(step, resamples - first)) / count


@lru_cache(maxsize=4)  # the columns of a table mostly have the same number of values
def _cached(count: int, resamples: int, seed: int) -> list[Values]:
    return list(_blocks(count, resamples, seed))
