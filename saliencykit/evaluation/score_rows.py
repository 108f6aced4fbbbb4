"""Rows of scores: one per image and masker, appended as JSON lines, so that a stopped run can be
resumed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any, final

from saliencykit.storage.jsonl import append_lines, json_lines

_DIGITS = 7  # float32 has no more


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """The scores of one masker's mask for one image.

    Attributes:
        sample: The image's name in the data set.
        index: Its position there, from 0.
        masker: The masker's name.
        label: The explained class; None if the image could not be read.
        label_name: The name of the class, where known.
        probability: Of the class on the whole image, in [0, 1].
        seconds: Time for computing this mask, its share of the batch.
        scores: By `metric` or `metric/part`; NaN where a metric does not apply.
        failure: Why scores are missing; None if none is.
    """

    sample: str
    index: int
    masker: str
    label: int | None = None
    label_name: str | None = None
    probability: float | None = None
    seconds: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def key(self) -> tuple[int, str]:
        """Index and masker, which identify a row."""
        return self.index, self.masker

    def line(self) -> str:
        """The row as one line of JSON, NaN as null."""
        data = asdict(self) | {
            "probability": _rounded(self.probability),
            "seconds": _rounded(self.seconds),
            "scores": {name: _rounded(value) for name, value in self.scores.items()},
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    def rounded(self) -> "Row":
        """The row with the digits that its line has."""
        return Row.of(json.loads(self.line()))

    @staticmethod
    def of(data: Mapping[str, Any]) -> "Row":
        """The row of a line.

        Raises:
            KeyError, TypeError, ValueError: The data is not a row.
        """
        scores = {
            str(name): nan if value is None else float(value)
            for name, value in data["scores"].items()
        }
        probability, seconds = (
            None if data.get(name) is None else float(data[name])
            for name in ("probability", "seconds")
        )
        return Row(
            sample=str(data["sample"]),
            index=int(data["index"]),
            masker=str(data["masker"]),
            label=data.get("label"),
            label_name=data.get("label_name"),
            probability=probability,
            seconds=seconds,
            scores=scores,
            failure=data.get("failure"),
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(f"{value:.{_DIGITS}g}")


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """The rows in some files, the first for each image and masker; incomplete lines of a stopped
    run are skipped.
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
    """Append rows to a file, on lines of their own even after an incomplete line.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    append_lines(path, (row.line() for row in rows))
