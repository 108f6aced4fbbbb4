"""How sure a mean over photos is, or a mean difference: standard errors, and percentile intervals from drawing the photos anew."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

DRAWS = 10_000

Values = np.ndarray[Any, np.dtype[np.float64]]


@cache
def weights(count: int, draws: int = DRAWS, seed: int = 0) -> Values:
    """How often each of `count` photos is drawn in each of the samples with repeats, as a share, (draws, count)."""
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=draws)
    return (drawn / count).astype(np.float32)


def interval(values: Sequence[float] | Values, draws: int = DRAWS) -> tuple[float, float, float]:
    """The mean, and the 2.5 and 97.5 percentiles of the means of samples of as many photos, drawn with repeats.

    Give it differences for a paired comparison: both methods' values are then drawn together.
    """
    numbers = np.asarray(values, dtype=np.float64)
    means = weights(len(numbers), draws) @ numbers
    low, high = np.percentile(means, [2.5, 97.5])
    return float(numbers.mean()), float(low), float(high)


def standard_error(values: Sequence[float] | Values) -> float:
    """Of the mean; 0 for a single value."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.std(ddof=1) / len(numbers) ** 0.5) if len(numbers) > 1 else 0.0
