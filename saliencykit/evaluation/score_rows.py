"""Rows of scores: one per image and masker, as JSON lines."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from typing import Any, final

from saliencykit.core.errors import InputError
from saliencykit.storage.jsonl import typed_lines
from saliencykit.storage.typed_json import Count, Finite, rounded, typed


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
        file_key: The key of the image's file (`data.file_key`); None for what is not a file.
    """

    sample: str
    index: Count
    masker: str
    label: Count | None = None
    label_name: str | None = None
    probability: Finite | None = None
    seconds: Finite | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    file_key: str | None = None

    @property
    def key(self) -> tuple[int, str]:
        """Index and masker, which identify a row."""
        return self.index, self.masker

    def line(self) -> str:
        """The row as one line of JSON, NaN as null."""
        data = asdict(self) | {
            "probability": rounded(self.probability),
            "seconds": rounded(self.seconds),
            "scores": {name: rounded(value) for name, value in self.scores.items()},
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    def rounded(self) -> "Row":
        """The row with the digits that its line has."""
        return Row.of(json.loads(self.line()))

    @staticmethod
    def of(data: Mapping[str, Any]) -> "Row":
        """The row of a line.

        Raises:
            InputError: The data is not a row.
        """
        scores = data.get("scores")
        if isinstance(scores, dict):
            scores = {name: nan if value is None else value for name, value in scores.items()}
        return typed({**data, "scores": scores}, Row, "a row of scores")


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """The rows in some files, the first for each image and masker; what is no row is skipped."""
    rows: dict[tuple[int, str], Row] = {}
    for path in paths:
        for data in typed_lines(path, dict[str, Any]):
            with suppress(InputError):
                row = Row.of(data)
                rows.setdefault(row.key, row)
    return list(rows.values())
