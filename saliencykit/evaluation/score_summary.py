"""Summaries of scores: one line of a table, and a paired difference."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class ScoreSummary:
    """One score of one masker over the images.

    Attributes:
        masker: The masker's name.
        score: `metric` or `metric/part`.
        mean: Over the images that have the score; NaN if none has.
        median: Over the same images.
        low: Lower end of the mean's 95% confidence interval (percentile bootstrap), NaN for fewer
            than two images.
        high: Its upper end.
        n: Number of images that have the score.
        missing: Number of images that lack it: the metric does not apply, or the row has a
            `failure`.
    """

    masker: str
    score: str
    mean: float
    median: float
    low: float
    high: float
    n: int
    missing: int


@final
@dataclass(frozen=True)
class ClassSummary:
    """One score of one masker over the images of one class.

    Attributes:
        masker: The masker's name.
        label_name: The class's name, or its number where the name is unknown.
        score: `metric` or `metric/part`.
        mean: Over the images of the class that have the score.
        low: Lower end of the mean's 95% confidence interval (percentile bootstrap), NaN for fewer
            than two images.
        high: Its upper end.
        n: Number of these images.
    """

    masker: str
    label_name: str
    score: str
    mean: float
    low: float
    high: float
    n: int


@final
@dataclass(frozen=True)
class PairedDifference:
    """One score of one masker minus another's, on the images that have both.

    Attributes:
        masker: The first masker.
        against: The one that is subtracted.
        score: `metric` or `metric/part`.
        mean: Of the differences; NaN if no image has both.
        low: Lower end of the mean's 95% confidence interval (percentile bootstrap), NaN for fewer
            than two images.
        high: Its upper end. If the interval contains 0, the data does not tell which is better.
        n: Number of images that have both.
    """

    masker: str
    against: str
    score: str
    mean: float
    low: float
    high: float
    n: int


def metric_of(score: str, metrics: Iterable[str]) -> str:
    """The name of the metric that a score belongs to.

    Args:
        score: `saliency-score`, or, of a metric with several, `area-curves/gap`.
        metrics: The known metrics.
    """
    return next(
        (name for name in metrics if score == name or score.startswith(f"{name}/")),
        score.split("/")[0],
    )


def as_objects(
    lines: Sequence[ScoreSummary | ClassSummary | PairedDifference],
) -> list[dict[str, Any]]:
    """The lines as JSON objects, NaN as null.

    Args:
        lines: From `Scores.table`, `by_class` or `compare`.
    """
    return [
        {name: None if value != value else value for name, value in asdict(line).items()}
        for line in lines
    ]
