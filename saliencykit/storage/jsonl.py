"""JSON lines: files of rows, one JSON object a line."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.storage.atomic_files import cannot_write, refuse_links, write_text
from saliencykit.storage.locations import is_remote, read_bytes

T = TypeVar("T")
_LONGEST = 2**24  # bytes of a line


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file of lines, which is moved into place when it is complete.

    Args:
        path: The file.
        lines: Without line ends.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    write_text(path, "".join(f"{line}\n" for line in lines))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a file, which is created if needed; they start on a new line even after the
    incomplete line of a killed run.

    Raises:
        InputError: It is a link.
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    refuse_links(path)
    data = "".join(f"{line}\n" for line in lines).encode(errors="replace")
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            file.write(data)
    except OSError as error:
        raise cannot_write(path, error) from error


def typed_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows in a file of JSON lines.

    A line that is no such row is skipped; a missing file has no lines.

    Args:
        path: The file.
        kind: The type of a row, see `typed`.

    Raises:
        InputError: The file cannot be read.
    """
    decoder = msgspec.json.Decoder(kind)
    refuse_special_file(path)
    try:
        with io.BytesIO(read_bytes(path)) if is_remote(path) else path.open("rb") as file:
            # a longer line is no row of ours, and its parts are none either
            for line in iter(lambda: file.readline(_LONGEST), b""):
                try:
                    row = decoder.decode(line)
                except (msgspec.MsgspecError, ValueError, RecursionError):
                    continue
                yield row
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
