"""How sure a mean over pictures is, or a mean difference: percentile intervals from drawing the
pictures anew, standard errors.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

DRAWS = 10_000
_BLOCK = 4_000_000  # weights at once, 32 MB

Values = np.ndarray[Any, np.dtype[np.float64]]


def weights(count: int, draws: int = DRAWS, seed: int = 0) -> Values:
    """How often each picture is drawn in each of the samples with repeats, as a share, (draws,
    count).

    Args:
        count: Pictures, >= 1.
        draws: Samples of as many pictures.
        seed: Of these.
    """
    return np.concatenate(list(_blocks(count, draws, seed)))


def interval(
    values: Sequence[float] | Values, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """The mean, and the 2.5 and 97.5 percentiles of the means of samples of as many pictures, drawn
    with repeats.

    Give it differences for a paired comparison: both methods' values are then drawn together.
    Values must be finite. Of a single value the interval says nothing: it is NaN, as is everything
    of none.

    Args:
        values: One per picture.
        draws: Samples of as many pictures.
        seed: Of these.

    Example:
        >>> interval([0.25] * 30)
        (0.25, 0.25, 0.25)

    References:
        Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3, the percentile
        interval.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return float("nan"), float("nan"), float("nan")
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return mean, float("nan"), float("nan")
    # of the deviations, so that what does not vary has no interval by rounding
    blocks = (
        _kept(len(numbers), draws, seed)
        if draws * len(numbers) <= _BLOCK
        else _blocks(len(numbers), draws, seed)
    )
    means = np.concatenate([block @ (numbers - mean) for block in blocks])
    low, high = mean + np.percentile(means, [2.5, 97.5])
    # a bound that is 0 must not lie on one side of it
    rounding = 1e-12 * float(np.abs(numbers).max())
    return (
        mean,
        float(low) if abs(low) > rounding else 0.0,
        float(high) if abs(high) > rounding else 0.0,
    )


def standard_error(values: Sequence[float] | Values) -> float:
    """Of the mean; 0 for a single value.

    Args:
        values: One per picture, finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.std(ddof=1) / len(numbers) ** 0.5) if len(numbers) > 1 else 0.0


def _blocks(count: int, draws: int, seed: int) -> Iterator[Values]:
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // count)
    for first in range(0, draws, step):
        drawn = generator.multinomial(
            count, np.full(count, 1 / count), size=min(step, draws - first)
        )
        yield drawn / count


@lru_cache(maxsize=4)  # the columns of a table mostly have one and the same number of values
def _kept(count: int, draws: int, seed: int) -> list[Values]:
    return list(_blocks(count, draws, seed))
