"""External data: the files beside an ONNX model that hold its large tensors. A model from a
stranger may name any file of the disk; only files beside it are accepted.

References:
    https://protobuf.dev/programming-guides/encoding; field numbers from onnx.proto3, version 1.19
"""

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from saliencykit import InputError

# by message, the fields that lead to tensors: number -> message
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_FIXED = {1: 8, 5: 4}  # bytes of a number, by wire type


def check_external_data(path: Path) -> None:
    """Check that a model's tensors are in the file itself, or in files beside or below it.

    Args:
        path: The ONNX file; one of onnxruntime's own format, `.ort`, has no external data.

    Raises:
        InputError: A tensor is somewhere else: the path is absolute, has `..`, or a link leads
            outside; or the file is not an ONNX model.
    """
    if path.suffix.lower() == ".ort" or path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            locations = set(_locations(data))
        except (IndexError, ValueError) as error:
            raise InputError(
                f"{str(path)!r} cannot be opened as an ONNX model: it is damaged."
            ) from error
    for location in sorted(locations):
        if reason := _objection(path.parent.resolve(), location):
            raise InputError(
                f"{str(path)!r} takes tensors from {location[:200]!r}, which {reason}; external "
                "data must be files in the model's folder."
            )


def _objection(folder: Path, location: str) -> str:
    """Why a location is not accepted; empty if it is."""
    windows = PureWindowsPath(location)
    absolute = PurePosixPath(location).is_absolute() or windows.drive or windows.root
    if absolute or ".." in windows.parts or "\0" in location:
        return "is not a path below it"
    try:
        target = (folder / location).resolve()
        if not target.is_relative_to(folder):
            return "is a link that leads outside of it"
        return "" if target.is_file() else "is not a file there"
    except (OSError, RuntimeError):  # a name that is too long, or links in a circle
        return "is not a file there"


def _locations(data: mmap.mmap) -> Iterator[str]:
    """Where tensors are; raises IndexError or ValueError where the file is not a message."""
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        for number, first, last in _parts(data, start, end):
            kind = _FIELDS[message].get(number)
            if kind == "entry":
                entry = {n: bytes(data[a:b]) for n, a, b in _parts(data, first, last)}
                if entry.get(1) == b"location":
                    yield entry.get(2, b"").decode()
            elif kind is not None:
                waiting.append((kind, first, last))


def _parts(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message that has a length."""
    while start < end:
        key, start = _varint(data, start)
        wire = key & 7
        if wire == 0:
            _, start = _varint(data, start)
        elif wire in _FIXED:
            start += _FIXED[wire]
        elif wire == 2:
            length, start = _varint(data, start)
            if length > end - start:
                raise ValueError("a field is longer than its message")
            yield key >> 3, start, start + length
            start += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A number of 7 bits per byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
    raise ValueError("a number of more than 10 bytes")
