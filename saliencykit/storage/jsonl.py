"""JSON lines: rows that are appended as a run produces them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import cannot_write


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines; they start on a new line even after the incomplete line of a killed run.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    text = "".join(f"{line}\n" for line in lines).encode(errors="replace")
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    text = b"\n" + text
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from error


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The values in a file of JSON lines, each with the byte offset of its line.

    The incomplete line of a killed run is skipped; a missing file has no lines.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read.
    """
    if not path.exists():
        return
    start = 0
    try:
        with path.open("rb") as file:
            for line in file:
                offset, start = start, start + len(line)
                try:
                    data = json.loads(line)
                except ValueError:
                    continue
                yield offset, data
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def rows_of(folder: Path, rank: int) -> Path:
    """The file of rows that one process of a run appends to: `rows.jsonl`, or `rows-1.jsonl` and so
    on for further processes.
    """
    return folder / ("rows.jsonl" if rank == 0 else f"rows-{rank}.jsonl")


def row_files(folder: Path) -> list[Path]:
    """The existing files of rows; those of further processes until they are merged."""
    return sorted(folder.glob("rows*.jsonl"), key=lambda path: (len(path.name), path.name))
