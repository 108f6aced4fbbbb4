"""Scores: the result of an evaluation; its table, paired differences, and failures."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from math import isfinite, nan
from pathlib import Path
from typing import Any, final

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.core.visible_text import csv_cell, visible
from saliencykit.evaluation.bootstrap import RESAMPLES, interval
from saliencykit.evaluation.notebook_table import scores_html
from saliencykit.evaluation.run_directory import RunDirectory
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.score_summary import (
    ClassSummary,
    PairedDifference,
    ScoreSummary,
    as_objects,
    metric_of,
)
from saliencykit.storage.atomic_files import write_text
from saliencykit.storage.locations import location


@final
@dataclass(frozen=True)
class Scores:
    """The scores of every masker on every image.

    Attributes:
        rows: One per image and masker, in this order.
        settings: What was evaluated, how, and with which versions: the `settings.json` of a run
            directory.
        output_dir: The run directory; None if there is none.

    Example:
        >>> from saliencykit.evaluation import Row
        >>> areas = [(0, "x", 0.0), (0, "y", 1.0), (1, "x", 1.0), (1, "y", 1.0)]
        >>> rows = [
        ...     Row(sample="ab"[i], index=i, masker=masker, scores={"area": value})
        ...     for i, masker, value in areas
        ... ]
        >>> scores = Scores(tuple(rows))
        >>> scores.means()
        {'x': {'area': 0.5}, 'y': {'area': 1.0}}
        >>> [(line.masker, line.mean, line.median, line.n) for line in scores.table()]
        [('x', 0.5, 0.5, 2), ('y', 1.0, 1.0, 2)]
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    output_dir: Path | None = None

    @property
    def maskers(self) -> tuple[str, ...]:
        """The maskers' names, in the order of the call."""
        return tuple(
            dict.fromkeys([*self.settings.get("maskers", {}), *(row.masker for row in self.rows)])
        )

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The settings of the metrics, by name."""
        known: Mapping[str, Any] = self.settings.get("metrics", {})
        return known

    @property
    def names(self) -> tuple[str, ...]:
        """The scores' names, metric by metric."""
        order = {name: place for place, name in enumerate(self.metrics)}
        found = dict.fromkeys(name for row in self.rows for name in row.scores)
        return tuple(sorted(found, key=lambda name: order.get(metric_of(name, order), len(order))))

    @property
    def main(self) -> tuple[str, ...]:
        """The first score of every metric, which the metric's direction is about."""
        first: dict[str, str] = {}
        for name in self.names:
            first.setdefault(metric_of(name, self.metrics), name)
        return tuple(first.values())

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len({row.index for row in self.rows})

    def values(self, masker: str, score: str) -> dict[int, float]:
        """One score of one masker by the image's index; finite values only.

        Args:
            masker: One of `maskers`.
            score: One of `names`.
        """
        found = {row.index: row.scores.get(score, nan) for row in self.rows if row.masker == masker}
        return {index: value for index, value in found.items() if isfinite(value)}

    def table(self, resamples: int = RESAMPLES, seed: int = 0) -> tuple[ScoreSummary, ...]:
        """Mean with a 95% confidence interval (percentile bootstrap) and median, for every masker
        and score.

        Args:
            resamples: Number of bootstrap samples of the images.
            seed: Random seed.

        References:
            Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
        """
        rows = Counter(row.masker for row in self.rows)
        lines = []
        for masker in self.maskers:
            for score in self.names:
                values = list(self.values(masker, score).values())
                mean, low, high = interval(values, resamples, seed)
                median = float(np.median(values)) if values else nan
                n, missing = len(values), rows[masker] - len(values)
                lines.append(ScoreSummary(masker, score, mean, median, low, high, n, missing))
        return tuple(lines)

    def by_class(
        self, score: str, resamples: int = RESAMPLES, seed: int = 0
    ) -> tuple[ClassSummary, ...]:
        """A score for each class on its own, the lowest mean first; classes without one are left
        out.

        Args:
            score: One of `names`.
            resamples: Number of bootstrap samples of the images.
            seed: Random seed.

        Raises:
            InputError: There is no such score.
        """
        if score not in self.names:
            raise InputError(
                f"unknown score {score!r}; this evaluation has {', '.join(self.names) or 'none'}."
            )
        values: dict[tuple[str, str], list[float]] = {}
        for row in self.rows:
            value = row.scores.get(score, nan)
            if isfinite(value):
                name = str(row.label) if row.label_name is None else row.label_name
                values.setdefault((row.masker, name), []).append(value)
        lines = [
            ClassSummary(*key, score, *interval(one, resamples, seed), len(one))
            for key, one in values.items()
        ]
        order = {name: place for place, name in enumerate(self.maskers)}
        return tuple(sorted(lines, key=lambda line: (order[line.masker], line.mean)))

    def compare(
        self, against: str, resamples: int = RESAMPLES, seed: int = 0
    ) -> tuple[PairedDifference, ...]:
        """Every other masker minus this one, image by image: a much sharper comparison than that
        of two intervals.

        Args:
            against: A masker's name.
            resamples: Number of bootstrap samples of the images.
            seed: Random seed.

        Raises:
            InputError: There is no such masker.
        """
        if against not in self.maskers:
            raise InputError(
                f"unknown masker {against!r}; this evaluation has "
                f"{', '.join(self.maskers) or 'none'}."
            )
        theirs = {score: self.values(against, score) for score in self.names}
        out = []
        for masker in self.maskers:
            for score in self.names if masker != against else ():
                pairs = self.values(masker, score).items()
                values = [v - theirs[score][i] for i, v in pairs if i in theirs[score]]
                numbers = (*interval(values, resamples, seed), len(values))
                out.append(PairedDifference(masker, against, score, *numbers))
        return tuple(out)

    def means(self) -> dict[str, dict[str, float]]:
        """The mean scores by masker and name, over the images that have them; NaN if none has."""
        return {
            masker: {
                score: float(np.mean(list(values.values()))) if values else nan
                for score in self.names
                for values in [self.values(masker, score)]
            }
            for masker in self.maskers
        }

    def seconds(self) -> dict[str, float]:
        """The median time per image of each masker; NaN if there is none."""
        times: dict[str, list[float]] = {masker: [] for masker in self.maskers}
        for row in self.rows:
            if row.seconds is not None:
                times[row.masker].append(row.seconds)
        return {
            masker: float(np.median(values)) if values else nan for masker, values in times.items()
        }

    def failures(self) -> dict[tuple[str, str], int]:
        """How many of a masker's rows lack scores, by masker and failure, most frequent first."""
        rows = ((row.masker, row.failure) for row in self.rows if row.failure is not None)
        return dict(Counter(rows).most_common())

    def higher_is_better(self, score: str) -> bool | None:
        """The direction of the metric that a score belongs to; None if it is unknown.

        Args:
            score: One of `names`.
        """
        known = self.metrics.get(metric_of(score, self.metrics), {})
        return known.get("higher_is_better")  # type: ignore[no-any-return]

    def to_csv(self, path: str | Path) -> Path:
        """Write the table: one line per masker and score.

        Args:
            path: The file.

        Returns:
            The path.

        Raises:
            SaliencyKitError: The file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([each.name for each in fields(ScoreSummary)])
        writer.writerows(
            [
                ["" if value != value else csv_cell(value) for value in astuple(line)]
                for line in self.table()
            ]
        )
        path = location(path)
        write_text(path, text.getvalue())
        return path

    def to_json(self, path: str | Path) -> Path:
        """Write the table as a list of objects, NaN as null.

        Args:
            path: The file.

        Returns:
            The path.

        Raises:
            SaliencyKitError: The file cannot be written.
        """
        path = location(path)
        write_text(path, json.dumps(as_objects(self.table()), indent=1, ensure_ascii=False) + "\n")
        return path

    @staticmethod
    def load(output_dir: str | Path) -> "Scores":
        """Read a run directory, finished or not.

        Args:
            output_dir: As given to `evaluate`.

        Raises:
            InputError: There is no evaluation in it.
        """
        run = RunDirectory(location(output_dir))
        settings = run.settings()
        return Scores(tuple(run.rows()), settings, run.path)

    def _repr_html_(self) -> str:
        return scores_html(self)

    def __repr__(self) -> str:
        """The mean of each metric's first score, a line per masker."""
        means, main = self.means(), self.main
        lines = [f"Scores of {len(self.maskers)} maskers on {self.num_images} images"]
        lines += [
            f"  {visible(masker)}: "
            + ", ".join(f"{name} {means[masker][name]:.4g}" for name in main)
            for masker in means
        ]
        if more := len(self.names) - len(main):
            lines.append(f"  and {more} other scores, see means()")
        return "\n".join(lines)
