"""Estimate: a mean over images with its confidence interval; and results as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, final

from torch import Tensor

from saliencykit.evaluation.bootstrap import interval


@final
@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% confidence interval (percentile bootstrap).

    Attributes:
        mean: Over the images that have the value.
        low: Lower end of the interval; NaN for fewer than two images.
        high: Upper end.
        n: Number of images.

    Example:
        >>> Estimate.of([0.5] * 8)
        Estimate(mean=0.5, low=0.5, high=0.5, n=8)
    """

    mean: float
    low: float
    high: float
    n: int

    @staticmethod
    def of(values: Tensor | Sequence[float], seed: int = 0) -> "Estimate":
        """The estimate from one value per image; NaN values are skipped and not counted."""
        known = [float(value) for value in values if not math.isnan(value)]
        return Estimate(*interval(known, seed=seed), len(known))

    def is_below(self, bound: float) -> bool | None:
        """True if the whole interval is below the bound, False if none of it is, None if there are
        too few images to tell.

        Example:
            >>> Estimate(0.4, 0.3, 0.6, 20).is_below(0.5) is None
            True
        """
        return True if self.high < bound else False if self.low >= bound else None

    def __str__(self) -> str:
        """Mean and interval with two decimals."""
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def as_json(thing: Any) -> Any:
    """Dataclasses, mappings and sequences as JSON types; NaN and infinities are null.

    Args:
        thing: One of these, or a number, text, boolean or None.

    Example:
        >>> as_json(Estimate(0.5, float("nan"), float("nan"), 1))
        {'mean': 0.5, 'low': None, 'high': None, 'n': 1}
    """
    if is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: as_json(getattr(thing, field.name)) for field in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): as_json(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [as_json(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing
