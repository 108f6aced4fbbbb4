"""JSON lines: rows that are appended as a run produces them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import append_bytes

T = TypeVar("T")
_LONGEST = 2**24  # bytes of a line


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines; they start on a new line even after the incomplete line of a killed run.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    text = "".join(f"{line}\n" for line in lines)
    append_bytes(path, text.encode(errors="replace"), lines=True)


def typed_lines(path: Path, kind: type[T]) -> Iterator[tuple[int, T]]:
    """The rows in a file of JSON lines, each with the byte offset of its line.

    A line that is no such row, as the incomplete one of a killed run, is skipped; a missing file
    has no lines.

    Args:
        path: The file.
        kind: The type of a row, see `typed`.

    Raises:
        InputError: The file cannot be read.
    """
    start, decoder = 0, msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            # a longer line is no row of ours, and its parts are none either
            for line in iter(lambda: file.readline(_LONGEST), b""):
                offset, start = start, start + len(line)
                try:
                    row = decoder.decode(line)
                except (ValueError, RecursionError):
                    continue
                yield offset, row
    except FileNotFoundError:
        return
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
