"""Tables of images: CSV files and JSON lines with paths, labels and bounding boxes."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.core.visible_text import unicode_text
from saliencykit.data.record import Label, Record
from saliencykit.storage.locations import is_remote, location
from saliencykit.storage.typed_json import parse_json

PATHS = ("path", "file", "image", "filename")
LABELS = ("label", "class", "wnid")
JSON_LINES = (".jsonl", ".ndjson")
TABLES = (".csv", *JSON_LINES)


def read_table(path: Path) -> list[Record]:
    """The rows of a table, one image each.

    Args:
        path: A CSV file with a header, or a file of JSON objects, one per line (`.jsonl`). The
            first of the columns `path`, `file`, `image` or `filename` has paths relative to the
            file's folder; the first of `label`, `class` or `wnid` has the class (empty for none);
            `boxes` has bounding boxes in pixels of the image: `x0 y0 x1 y1;x0 y0 x1 y1`, or in JSON
            a list of `[x0, y0, x1, y1]`; `inside` has paths of images of the same size, white where
            the evidence should be.

    Raises:
        InputError: The file cannot be read, has no column of paths, or has no rows.
    """
    if path.suffix.lower() in JSON_LINES:
        rows = _json_rows(path)
    else:
        with csv_rows(path) as lines:
            rows = list(lines)
            _require_paths(path, [name for name in lines.fieldnames or () if name])
    if not rows:
        raise InputError(f"{str(path)!r} has no rows.")
    _require_paths(path, list(dict.fromkeys(name for row in rows for name in row if name)))
    return [_record(path.parent, row) for row in rows]


def row_record(name: str, image: Any, row: Mapping[str, Any]) -> Record:
    """The record of an image with the label and the boxes of a row; see `read_table`.

    Args:
        name: Of the image.
        image: As of `Record`.
        row: By column.
    """
    named = column_named(LABELS, row)
    label = row[named] if named else None
    label = (label.strip() or None) if isinstance(label, str) else label
    try:
        boxes = None if row.get("boxes") is None else read_boxes(row["boxes"])
    except (TypeError, ValueError, OverflowError):
        failure = (
            f"the boxes of {name!r} are {row['boxes']!r}; expected 'x0 y0 x1 y1;x0 y0 x1 y1' with "
            "x0 < x1 and y0 < y1."
        )
        return Record(name, image, failure=failure)
    return Record(name, image, label, boxes)


@contextmanager
def csv_rows(path: Path) -> "Iterator[csv.DictReader[str]]":
    """The rows of a CSV file with a header, in UTF-8.

    Raises:
        InputError: The file cannot be opened, or is not a CSV file in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield csv.DictReader(file)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{str(path)!r} is not a CSV file in UTF-8: {error}; convert it to UTF-8."
        ) from error


def read_labels(labels: "Path | Mapping[str, Label]") -> dict[str, Label]:
    """Labels by image, from a mapping or a table as of `read_table`.

    Raises:
        InputError: The file does not exist, has no such columns, or has two labels for one image.
    """
    if isinstance(labels, Mapping):
        return {unicode_text(name): label for name, label in labels.items()}
    refuse_special_file(labels)
    if not labels.is_file():
        raise InputError(
            f"labels={str(labels)!r}: no such file; give a CSV file of paths and labels, or a "
            "mapping."
        )
    known: dict[str, Label] = {}
    for record in read_table(labels):
        if record.label is not None and known.setdefault(record.name, record.label) != record.label:
            raise InputError(
                f"{str(labels)!r} has two labels for {record.name}, {known[record.name]} and "
                f"{record.label}; list each image once, or pass the file as the data: a row is "
                "then one image and one class."
            )
    if not known:
        raise InputError(
            f"{str(labels)!r} has no labels; they are read from the column {', '.join(LABELS)}."
        )
    return known


def label_of(name: str, labels: Mapping[str, Label]) -> Label | None:
    """The label of an image by its name, its file name, or its file name without the suffix; None
    if there is none.
    """
    last = PurePosixPath(name)
    return next((labels[key] for key in (name, last.name, last.stem) if key in labels), None)


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        row = parse_json(line, f"{str(path)!r}, line {number}") if line.strip() else {}
        if not isinstance(row, dict):
            raise InputError(
                f"{str(path)!r}, line {number}: expected an object such as "
                f'{{"path": "a.jpg", "label": "cat"}}; got {line.strip()[:40]}.'
            )
        if row:
            rows.append(row)
    return rows


def _require_paths(path: Path, columns: list[str]) -> None:
    if column_named(PATHS, columns) is None:
        have = f"the columns {', '.join(columns)}" if columns else "no columns"
        raise InputError(
            f"{str(path)!r} has {have}; paths are read from the column {', '.join(PATHS)}."
        )


def column_named(wanted: Iterable[str], columns: Iterable[Any]) -> str | None:
    """The column that has the first of the wanted names, in any case; None if there is none."""
    known = [name for name in columns if name]
    return next((name for want in wanted for name in known if name.strip().lower() == want), None)


def _record(folder: Path, row: Mapping[str, Any]) -> Record:
    where = column_named(PATHS, row)
    name = str(row[where] or "").strip() if where else ""
    if not name:
        return Record("", "", failure="this row has no path.")
    inside, path = row.get("inside") or None, path_inside(folder, name)
    record = row_record(name, str(path) if is_remote(path) else path, row)
    return replace(record, inside=None if inside is None else path_inside(folder, str(inside)))


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file of the table; a relative one is inside the folder."""
    if is_remote(name) or not is_remote(folder):
        return location(name) if is_remote(name) else folder / Path(name).expanduser()
    return folder / name


def read_boxes(given: Any) -> Tensor:
    """Bounding boxes (n, 4), from text `x0 y0 x1 y1;x0 y0 x1 y1` or rows of numbers.

    Raises:
        ValueError: They are malformed.
    """
    parts = (
        [part.replace(",", " ").split() for part in given.split(";") if part.strip()]
        if (isinstance(given, str))
        else given
    )
    rows = [[float(value) for value in part] for part in parts]
    for row in rows:
        if len(row) != 4 or not (-inf < row[0] < row[2] < inf and -inf < row[1] < row[3] < inf):
            raise ValueError(row)
    return torch.tensor(rows, dtype=torch.float32, device="cpu").reshape(-1, 4)
