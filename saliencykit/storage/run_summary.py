"""Summary: means, quartiles and failures of the rows of a run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from typing import Any, final

import numpy as np

from saliencykit.core.verdict import Verdict
from saliencykit.storage.explanation_rows import ExplainedRow

COLUMNS = (
    "probability", "kept", "dropped", "area", "sufficient_area", "destroying_area", "seconds",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Summary:
    """Statistics of the rows of a run.

    Attributes:
        images: Number of rows.
        explained: Number of rows with a map.
        columns: By column the mean, the lower quartile, the median and the upper quartile; NaN
            where no row has a value.
        mispredicted: How many images have another predicted class than the explained one, and the
            first few.
        verdicts: By verdict, how many images have it; the most frequent first.
        failures: By failure, how many images have it and the names of the first few; the most
            frequent failure first.
    """

    images: int
    explained: int
    columns: dict[str, tuple[float, float, float, float]]
    mispredicted: tuple[int, tuple[ExplainedRow, ...]]
    verdicts: dict[Verdict, int]
    failures: dict[str, tuple[int, tuple[str, ...]]]

    def facts(self) -> dict[str, Any]:
        """The numbers as JSON has them, without names."""
        means = {name: values[0] for name, values in self.columns.items()}
        return {
            "images": self.images,
            "explained": self.explained,
            "means": {name: None if mean != mean else mean for name, mean in means.items()},
            "mispredicted": self.mispredicted[0],
            "verdicts": self.verdicts,
            "reasons": {reason: count for reason, (count, _) in self.failures.items()},
        }


def summarize(rows: Iterable[ExplainedRow], few: int = 5) -> Summary:
    """Read the rows, once.

    Args:
        rows: The rows of a run.
        few: Names per failure, and images of `mispredicted`.

    Example:
        >>> good = ExplainedRow(name="a", index=0, area=0.2)
        >>> summary = summarize([good, ExplainedRow(name="b", index=1, failure="not an image")])
        >>> summary.images, summary.explained, summary.columns["area"][0], summary.failures
        (2, 1, 0.2, {'not an image': (1, ('b',))})
    """
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    failures: dict[str, tuple[int, tuple[str, ...]]] = {}
    verdicts: Counter[Verdict] = Counter()
    mispredicted: list[ExplainedRow] = []
    images = explained = wrong = 0
    for row in rows:
        images += 1
        explained += row.failure is None
        if row.predicted not in (None, row.label):
            wrong += 1
            mispredicted += [row] if wrong <= few else []
        verdicts.update([] if row.verdict is None else [row.verdict])
        for name, column in values.items():
            value = getattr(row, name)
            if value is not None:
                column.append(value)
        if row.failure is not None:
            count, names = failures.get(row.failure, (0, ()))
            failures[row.failure] = (count + 1, names if len(names) >= few else (*names, row.name))
    columns = {name: _spread(column) for name, column in values.items()}
    most_frequent = dict(sorted(failures.items(), key=lambda item: -item[1][0]))
    others = (wrong, tuple(mispredicted))
    return Summary(images, explained, columns, others, dict(verdicts.most_common()), most_frequent)


def _spread(values: list[float]) -> tuple[float, float, float, float]:
    if not values:
        return nan, nan, nan, nan
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return float(np.mean(values)), low, middle, high
