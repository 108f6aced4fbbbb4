"""Scores: the finished evaluation; its table, paired comparisons, and reasons of what is missing."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from math import isfinite, nan
from pathlib import Path
from typing import Any, final

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.evaluation.bootstrap import DRAWS, interval
from saliencykit.evaluation.run_directory import RunDirectory
from saliencykit.evaluation.score_rows import Row
from saliencykit.storage.atomic_files import write_text


@final
@dataclass(frozen=True)
class ScoreSummary:
    """One score of one masker over the pictures.

    Attributes:
        masker: Its name.
        score: `metric` or `metric/part`.
        mean: Over the pictures that have the score; NaN if none has.
        median: Of the same.
        low: The 2.5 percentile of the mean when the pictures are drawn anew, NaN for fewer than
            two.
        high: The 97.5 percentile.
        n: Pictures that have the score.
        missing: Pictures that have not: the metric does not apply, or there is a reason in the row.
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
class PairedDifference:
    """One score of one masker less another's, on the pictures that both have.

    Attributes:
        masker: The one.
        against: The other.
        score: `metric` or `metric/part`.
        mean: Of the differences, the one less the other; NaN if no picture has both.
        low: The 2.5 percentile of the mean when the pictures are drawn anew, NaN for fewer than
            two.
        high: The 97.5 percentile. An interval that holds 0 leaves open which is better.
        n: Pictures that have both.
    """

    masker: str
    against: str
    score: str
    mean: float
    low: float
    high: float
    n: int


@final
@dataclass(frozen=True)
class Scores:
    """What every masker's mask of every picture is worth.

    Attributes:
        rows: One per picture and masker, in this order.
        settings: What was evaluated, with what, and which versions; what `settings.json` of a run
            directory holds.
        folder: The run directory, or None if there is none.

    Example:
        >>> areas = [(0, "x", 0.0), (0, "y", 1.0), (1, "x", 1.0), (1, "y", 1.0)]
        >>> rows = [Row(sample="ab"[i], index=i, masker=masker, scores={"area": value}) for i, masker, value in areas]
        >>> scores = Scores(tuple(rows))
        >>> scores.means()
        {'x': {'area': 0.5}, 'y': {'area': 1.0}}
        >>> [(line.masker, line.mean, line.median, line.n) for line in scores.table()]
        [('x', 0.5, 0.5, 2), ('y', 1.0, 1.0, 2)]
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    @property
    def maskers(self) -> tuple[str, ...]:
        """Their names, in the order in which they were asked."""
        return tuple(
            dict.fromkeys([*self.settings.get("maskers", {}), *(row.masker for row in self.rows)])
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The scores' names, metric by metric."""
        order = {name: place for place, name in enumerate(self.settings.get("metrics", {}))}
        found = dict.fromkeys(name for row in self.rows for name in row.scores)
        return tuple(sorted(found, key=lambda name: order.get(metric_of(name, order), len(order))))

    @property
    def main(self) -> tuple[str, ...]:
        """The first score of every metric, which the metric's direction is about."""
        metrics = self.settings.get("metrics", {})
        first: dict[str, str] = {}
        for name in self.names:
            first.setdefault(metric_of(name, metrics), name)
        return tuple(first.values())

    def values(self, masker: str, score: str) -> dict[int, float]:
        """One score of one masker by the picture's index; only what is finite.

        Args:
            masker: One of `maskers`.
            score: One of `names`.
        """
        found = {row.index: row.scores.get(score, nan) for row in self.rows if row.masker == masker}
        return {index: value for index, value in found.items() if isfinite(value)}

    def table(self, draws: int = DRAWS, seed: int = 0) -> tuple[ScoreSummary, ...]:
        """Mean, median and bootstrap 95 % interval of the mean, for every masker and score.

        Args:
            draws: Samples of the pictures, with repeats.
            seed: Of these.

        References:
            Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
        """
        asked = Counter(row.masker for row in self.rows)
        lines = []
        for masker in self.maskers:
            for score in self.names:
                values = list(self.values(masker, score).values())
                mean, low, high = interval(values, draws, seed)
                median = float(np.median(values)) if values else nan
                lines.append(
                    ScoreSummary(
                        masker,
                        score,
                        mean,
                        median,
                        low,
                        high,
                        len(values),
                        asked[masker] - len(values),
                    )
                )
        return tuple(lines)

    def compare(
        self, against: str, draws: int = DRAWS, seed: int = 0
    ) -> tuple[PairedDifference, ...]:
        """Every other masker less this one, picture by picture: far surer than comparing two
        intervals.

        Args:
            against: A masker's name.
            draws: Samples of the pictures, with repeats.
            seed: Of these.

        Raises:
            InputError: There is no such masker.
        """
        if against not in self.maskers:
            raise InputError(
                f"no masker is called {against!r} in this evaluation; it has "
                f"{', '.join(self.maskers) or 'none'}."
            )
        theirs = {score: self.values(against, score) for score in self.names}
        out = []
        for masker in self.maskers:
            for score in self.names if masker != against else ():
                mine = self.values(masker, score)
                differences = [
                    value - theirs[score][index]
                    for index, value in mine.items()
                    if index in theirs[score]
                ]
                out.append(
                    PairedDifference(
                        masker,
                        against,
                        score,
                        *interval(differences, draws, seed),
                        len(differences),
                    )
                )
        return tuple(out)

    def means(self) -> dict[str, dict[str, float]]:
        """The mean scores by masker and name, over the pictures that have them; NaN if none has."""
        out: dict[str, dict[str, float]] = {}
        for masker in self.maskers:
            values = {score: list(self.values(masker, score).values()) for score in self.names}
            out[masker] = {score: float(np.mean(v)) if v else nan for score, v in values.items()}
        return out

    def seconds(self) -> dict[str, float]:
        """The median time that each masker took for a picture; NaN if there is none."""
        out = {}
        for masker in self.maskers:
            values = [
                row.seconds for row in self.rows if row.masker == masker and row.seconds is not None
            ]
            out[masker] = float(np.median(values)) if values else nan
        return out

    def reasons(self) -> dict[tuple[str, str], int]:
        """How often a masker's row lacks scores for a reason, most frequent first."""
        return dict(
            Counter(
                (row.masker, row.reason) for row in self.rows if row.reason is not None
            ).most_common()
        )

    def higher_is_better(self, score: str) -> bool | None:
        """Of the metric that a score belongs to; None if it is unknown.

        Args:
            score: One of `names`.
        """
        metrics = self.settings.get("metrics", {})
        known = metrics.get(metric_of(score, metrics))
        return None if known is None else known.get("higher_is_better")

    def to_csv(self, path: str | Path) -> Path:
        """Write the table: one line per masker and score.

        Args:
            path: Of the file.

        Returns:
            The path.

        Raises:
            SaliencyKitError: The file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([each.name for each in fields(ScoreSummary)])
        writer.writerows(
            [["" if value != value else value for value in astuple(line)] for line in self.table()]
        )
        path = Path(path).expanduser()
        write_text(path, text.getvalue())
        return path

    def to_json(self, path: str | Path) -> Path:
        """Write the table as a list of objects, NaN as null.

        Args:
            path: Of the file.

        Returns:
            The path.

        Raises:
            SaliencyKitError: The file cannot be written.
        """
        path = Path(path).expanduser()
        write_text(path, json.dumps(as_objects(self.table()), indent=1, ensure_ascii=False) + "\n")
        return path

    @staticmethod
    def load(folder: str | Path) -> "Scores":
        """Read a run directory, finished or not.

        Args:
            folder: As `evaluate(output_dir=...)` was given it.

        Raises:
            InputError: There is no evaluation in it.
        """
        run = RunDirectory(Path(folder).expanduser())
        settings = run.settings()
        return Scores(tuple(run.rows()), settings, run.path)

    def _repr_html_(self) -> str:
        from saliencykit.evaluation.notebook_table import scores_html

        return scores_html(self)

    def __repr__(self) -> str:
        """The mean of each metric's first score, a line per masker."""
        head = f"Scores of {len(self.maskers)} masker(s) on {len({row.index for row in self.rows})} picture(s)"
        means, main = self.means(), self.main
        lines = [
            f"  {masker}: " + ", ".join(f"{name} {means[masker][name]:.4g}" for name in main)
            for masker in means
        ]
        more = (
            [f"  and {len(self.names) - len(main)} other score(s), see means()"]
            if len(self.names) > len(main)
            else []
        )
        return "\n".join([head, *lines, *more])


def metric_of(score: str, metrics: Iterable[str]) -> str:
    """The name of the metric that a score belongs to.

    Args:
        score: `saliency-score`, or of several one, `area-curves/kept`.
        metrics: The known ones.
    """
    return next(
        (name for name in metrics if score == name or score.startswith(f"{name}/")),
        score.split("/")[0],
    )


def as_objects(lines: Sequence[ScoreSummary | PairedDifference]) -> list[dict[str, Any]]:
    """As JSON has it: NaN as None.

    Args:
        lines: Of `Scores.table` or `Scores.compare`.
    """
    return [
        {name: None if value != value else value for name, value in asdict(line).items()}
        for line in lines
    ]
