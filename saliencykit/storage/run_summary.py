"""Summary: what the rows of a run say together, read once and row by row."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from typing import final

import numpy as np

from saliencykit.storage.explanation_rows import ExplainedRow

COLUMNS = ("probability", "kept", "dropped", "area", "seconds")


@final
@dataclass(frozen=True)
class Summary:
    """What the rows of a run say together.

    Attributes:
        pictures: With a row.
        explained: Of these, with a map.
        columns: By column the mean, the lower quartile, the median, the upper quartile; NaN where
            no row has it.
        reasons: Why pictures have no map: how many, and the names of the first few, the most
            frequent reasons first.
    """

    pictures: int
    explained: int
    columns: dict[str, tuple[float, float, float, float]]
    reasons: dict[str, tuple[int, tuple[str, ...]]]


def summarize(rows: Iterable[ExplainedRow], few: int = 5) -> Summary:
    """Read the rows once.

    Args:
        rows: Of a run.
        few: So many names behind a reason.

    Example:
        >>> rows = [ExplainedRow(name="a", index=0, area=0.2, shard="s"), ExplainedRow(name="b", index=1, reason="no picture")]
        >>> found = summarize(rows)
        >>> found.pictures, found.explained, found.columns["area"][0], found.reasons
        (2, 1, 0.2, {'no picture': (1, ('b',))})
    """
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    reasons: dict[str, tuple[int, tuple[str, ...]]] = {}
    pictures = explained = 0
    for row in rows:
        pictures += 1
        explained += row.shard is not None
        for name, column in values.items():
            value = getattr(row, name)
            if value is not None:
                column.append(value)
        if row.reason is not None:
            count, names = reasons.get(row.reason, (0, ()))
            reasons[row.reason] = (count + 1, names if len(names) >= few else (*names, row.name))
    columns = {name: _spread(column) for name, column in values.items()}
    return Summary(
        pictures, explained, columns, dict(sorted(reasons.items(), key=lambda item: -item[1][0]))
    )


def _spread(values: list[float]) -> tuple[float, float, float, float]:
    if not values:
        return nan, nan, nan, nan
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return float(np.mean(values)), low, middle, high
