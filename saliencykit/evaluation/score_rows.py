"""Rows: one per picture and masker, appended as JSON lines as they come, so that a killed run goes
on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any, final

from saliencykit.storage.atomic_files import append_lines, json_lines

_DIGITS = 7  # float32 has no more


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """What one masker's mask of one picture is worth.

    Attributes:
        sample: The picture's name in the data set.
        index: Its place there, counted from 0.
        masker: The masker's name.
        label: The class asked about; None where the picture could not be read.
        label_name: Its name, where known.
        probability: Of the class on the whole picture, in [0, 1].
        seconds: For finding this mask; of a batch each picture's share.
        scores: By `metric` or `metric/part`; NaN where a metric does not apply.
        reason: Why there are no scores, or not all of them; None if all is well.
    """

    sample: str
    index: int
    masker: str
    label: int | None = None
    label_name: str | None = None
    probability: float | None = None
    seconds: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    @property
    def key(self) -> tuple[int, str]:
        """What there is one row for."""
        return self.index, self.masker

    def line(self) -> str:
        """As JSON, NaN as null."""
        data = asdict(self)
        data["scores"] = {name: _rounded(value) for name, value in self.scores.items()}
        data |= {
            name: None if data[name] is None else _rounded(data[name])
            for name in ("probability", "seconds")
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    def rounded(self) -> "Row":
        """With the digits that the line has."""
        return Row.of(json.loads(self.line()))

    @staticmethod
    def of(data: Mapping[str, Any]) -> "Row":
        """The reverse.

        Raises:
            KeyError, TypeError, ValueError: It is no row.
        """
        scores = {
            str(name): nan if value is None else float(value)
            for name, value in data["scores"].items()
        }
        known: dict[str, Any] = {
            name: data.get(name)
            for name in ("label", "label_name", "probability", "seconds", "reason")
        }
        known |= {
            name: None if known[name] is None else float(known[name])
            for name in ("probability", "seconds")
        }
        return Row(
            sample=str(data["sample"]),
            index=int(data["index"]),
            masker=str(data["masker"]),
            scores=scores,
            **known,
        )


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if isfinite(value) else None


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """The finished rows of some files, the first of each picture and masker; half a line of a
    killed run is left out.
    """
    rows: dict[tuple[int, str], Row] = {}
    for path in paths:
        for _, data in json_lines(path):
            try:
                row = Row.of(data)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            rows.setdefault(row.key, row)
    return list(rows.values())


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows behind the others, on lines of their own even where a killed run left half a line.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    append_lines(path, (row.line() for row in rows))
