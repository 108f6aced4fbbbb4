"""A CSV file of paths, labels and boxes as entries."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.data.record import Label, Record

PATHS = ("path", "file", "image", "filename")
LABELS = ("label", "class", "wnid")


def csv_entries(path: Path) -> list[Record]:
    """The rows of a CSV file, one picture each.

    Args:
        path: A CSV file with a heading. The first of the columns PATHS that it has holds paths
            relative to the file's folder, the first of LABELS the class (an empty one: none),
            `boxes` the boxes `x0 y0 x1 y1;x0 y0 x1 y1` in pixels of the picture.

    Raises:
        InputError: The file cannot be read, there is no column with paths, or no row.
    """
    with table_rows(path) as rows:
        columns = [name for name in rows.fieldnames or () if name]
        where, label = _first(PATHS, columns), _first(LABELS, columns)
        if where is None:
            raise InputError(
                f"{str(path)!r} has {'the columns ' + ', '.join(columns) if columns else 'no columns'}; paths stand in one of "
                f"{', '.join(PATHS)}."
            )
        entries = [
            _entry(
                path.parent,
                row[where] or "",
                (row[label] or "").strip() if label else "",
                row.get("boxes"),
            )
            for row in rows
        ]
    if not entries:
        raise InputError(f"there is no row in {str(path)!r}.")
    return entries


@contextmanager
def table_rows(path: Path) -> "Iterator[csv.DictReader[str]]":
    """The rows of a CSV file with a heading, in UTF-8.

    Raises:
        InputError: The file cannot be opened, or is no text in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield csv.DictReader(file)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{str(path)!r} is no CSV file in UTF-8: {error}; save it as one."
        ) from error


def read_labels(labels: "Path | Mapping[str, Label]") -> dict[str, Label]:
    """Labels by picture, from a mapping or a CSV file as of `csv_entries`.

    Raises:
        InputError: The file is not there, has no such columns, or two labels for one picture.
    """
    if isinstance(labels, Mapping):
        return dict(labels)
    if not labels.is_file():
        raise InputError(
            f"labels={str(labels)!r}: there is no such file; give a CSV file of paths and labels, "
            "or a mapping."
        )
    found: dict[str, Label] = {}
    for entry in csv_entries(labels):
        if entry.label is not None and found.setdefault(entry.name, entry.label) != entry.label:
            raise InputError(
                f"{str(labels)!r} has two labels for {entry.name}, {found[entry.name]} and "
                f"{entry.label}; write each picture once, or give the file as the data: a row is "
                "then one picture and one class."
            )
    if not found:
        raise InputError(
            f"{str(labels)!r} has no labels; they stand in one of the columns {', '.join(LABELS)}."
        )
    return found


def label_of(name: str, labels: Mapping[str, Label]) -> Label | None:
    """The label of a picture by its name, its file name, or its file name without the ending; None
    if there is none.
    """
    last = PurePosixPath(name)
    return next((labels[key] for key in (name, last.name, last.stem) if key in labels), None)


def _first(wanted: tuple[str, ...], columns: list[str]) -> str | None:
    return next((name for want in wanted for name in columns if name.strip().lower() == want), None)


def _entry(folder: Path, where: str, label: str, boxes: str | None) -> Record:
    name = where.strip()
    try:
        corners = None if boxes is None else _corners(boxes)
    except ValueError:
        return Record(
            name,
            name,
            reason=f"boxes of {name} are {boxes!r}; expected 'x0 y0 x1 y1;x0 y0 x1 y1', x0 < x1 "
            "and y0 < y1.",
        )
    if not name:
        return Record("", "", reason="there is no path in this row.")
    return Record(name, folder / Path(name).expanduser(), label or None, corners)


def _corners(text: str) -> Tensor:
    rows = [
        [float(value) for value in part.replace(",", " ").split()]
        for part in text.split(";")
        if part.strip()
    ]
    if any(
        len(row) != 4 or not (-inf < row[0] < row[2] < inf and -inf < row[1] < row[3] < inf)
        for row in rows
    ):
        raise ValueError
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
