"""Figure: a mean over pictures and how sure it is; verdicts from its bounds; and figures as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, final

from torch import Tensor

from saliencykit.evaluation.bootstrap import interval


@final
@dataclass(frozen=True)
class Figure:
    """A mean with its bootstrap 95 % interval.

    Attributes:
        mean: Over the pictures that have the value.
        low: 2.5 percentile of the means of pictures drawn anew; NaN for fewer than two pictures.
        high: 97.5 percentile.
        n: Pictures.

    Example:
        >>> Figure.of([0.5] * 8)
        Figure(mean=0.5, low=0.5, high=0.5, n=8)
    """

    mean: float
    low: float
    high: float
    n: int

    @staticmethod
    def of(values: Tensor | Sequence[float], seed: int = 0) -> "Figure":
        """Of one value per picture; those that are NaN are left out and not counted."""
        found = [float(value) for value in values if not math.isnan(value)]
        return Figure(*interval(found, seed=seed), len(found))

    def __str__(self) -> str:
        """Mean and interval with two decimals."""
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def is_below(figure: Figure, bound: float) -> bool | None:
    """True if the whole interval lies below the bound, False if none of it does, None if the
    pictures are too few to say.

    Args:
        figure: A mean with its interval.
        bound: What it must stay below.

    Example:
        >>> is_below(Figure(0.4, 0.3, 0.6, 20), 0.5) is None
        True
    """
    return True if figure.high < bound else False if figure.low >= bound else None


def word(passed: bool | None) -> str:
    """`pass`, `FAIL` or `unclear`.

    Args:
        passed: As of `is_below`; None is `unclear`.
    """
    return "unclear" if passed is None else "pass" if passed else "FAIL"


def as_facts(thing: Any) -> Any:
    """Dataclasses, mappings and sequences as what JSON knows; NaN and infinities are null.

    Args:
        thing: One of these, or a number, text, boolean or None.

    Example:
        >>> as_facts(Figure(0.5, float("nan"), float("nan"), 1))
        {'mean': 0.5, 'low': None, 'high': None, 'n': 1}
    """
    if is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: as_facts(getattr(thing, field.name)) for field in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): as_facts(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [as_facts(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing
