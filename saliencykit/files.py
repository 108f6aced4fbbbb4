"""Files that survive a kill and a full disk: written beside and moved into place, or line behind line."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from saliencykit.core.errors import SaliencyKitError


def cannot_write(path: Path, error: OSError) -> SaliencyKitError:
    """What is said of a full disk."""
    return SaliencyKitError(
        f"{path} cannot be written: {error.strerror or error}. What was finished before is there; the same call goes on from it."
    )


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written beside its place and move it there when it is whole and on the disk.

    Args:
        path: Its place.
        write: Writes to the path that it is given; raises OSError where it cannot.

    Raises:
        SaliencyKitError: The disk is full, or the directory cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a file beside and move it into place.

    Raises:
        SaliencyKitError: The disk is full, or the directory cannot be written.
    """
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines behind the others, on lines of their own even where a killed run left half a line.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
    try:
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
    """
    if not path.exists():
        return
    start = 0
    with path.open("rb") as file:
        for line in file:
            begun, start = start, start + len(line)
            try:
                data = json.loads(line)
            except ValueError:
                continue
            yield begun, data
