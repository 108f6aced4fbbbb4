"""Files that survive a kill and a full disk: written beside and moved into place, or line behind
line.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from saliencykit.core.errors import InputError, SaliencyKitError

GOES_ON = "What was finished before is there; the same call goes on from it."


def cannot_write(path: Path, error: OSError, advice: str = GOES_ON) -> SaliencyKitError:
    """What is said of a full disk, and of a directory that nothing can be written to."""
    return SaliencyKitError(
        f"{path} cannot be written: {error.strerror or error}. {advice}".rstrip()
    )


def writable(directory: Path) -> None:
    """Make the directory and check that files can be written there: said before minutes of work,
    and not after.

    Raises:
        InputError: They cannot.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or error
        raise InputError(
            f"cannot write to {directory}: {reason}; choose another directory."
        ) from error


def write_beside(path: Path, write: Callable[[Path], object], *, advice: str = GOES_ON) -> None:
    """Have a file written beside its place and move it there when it is whole and on the disk.

    Args:
        path: Its place; the folder is made, if it is not there.
        write: Writes to the path that it is given; raises OSError where it cannot.
        advice: The last sentence of the error.

    Raises:
        SaliencyKitError: The disk is full, or the directory cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # its folder may be a file
            beside.unlink(missing_ok=True)
        raise cannot_write(path, error, advice) from error


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes were writing beside its place; for the one process that may
    write to the folder.

    Args:
        folder: With all folders in it.
    """
    for path in folder.rglob(".*"):
        if path.suffix[1:].isdigit() and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, advice: str = GOES_ON) -> None:
    """Write a file beside and move it into place.

    Args:
        path: Its place; the folder is made, if it is not there.
        text: What will stand in it, in UTF-8.
        advice: The last sentence of the error.

    Raises:
        SaliencyKitError: The disk is full, or the directory cannot be written.
    """
    write_beside(
        path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""), advice=advice
    )


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines behind the others, on lines of their own even where a killed run left half a
    line.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
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
    """What stands in a file of JSON lines, each with the byte that its line begins at.

    Half a line of a killed run is left out, and so is a file that is not there.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read.
    """
    if not path.exists():
        return
    start = 0
    try:
        with path.open("rb") as file:
            for line in file:
                begun, start = start, start + len(line)
                try:
                    data = json.loads(line)
                except ValueError:
                    continue
                yield begun, data
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def rows_of(folder: Path, rank: int) -> Path:
    """The file of rows that one process of a run appends to: `rows.jsonl`, or `rows-1.jsonl` ... of
    further processes.
    """
    return folder / ("rows.jsonl" if rank == 0 else f"rows-{rank}.jsonl")


def row_files(folder: Path) -> list[Path]:
    """The files of rows that are there; those of further processes until they are merged."""
    return sorted(folder.glob("rows*.jsonl"), key=lambda path: (len(path.name), path.name))
