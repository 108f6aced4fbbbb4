"""Typed JSON: headers, manifests and rows are checked against a type where they are read, so that
a damaged file is one line that names the file, the field, what was expected and what came.
"""

import json
import re
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.storage.locations import is_remote, read_bytes

T = TypeVar("T")
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]  # a NaN is outside of every interval
Finite: TypeAlias = Annotated[float, Meta(ge=-1e300, le=1e300)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Side: TypeAlias = Annotated[int, Meta(ge=1, le=2**20)]
Size: TypeAlias = tuple[Side, Side]
Facts: TypeAlias = dict[str, Any]

MAX_PIXELS = 2**28  # of a map that a file describes: 1 GB in float32
_LARGEST = 2**26  # bytes of a JSON file that is read at once
_SAYS = re.compile("got `|nvalid ")  # a message that names the value already
_DEEPEST = 64  # levels of lists and objects


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is none.
        InputError: It cannot be read, is larger than 64 MB, or is not JSON.
    """
    refuse_special_file(path)
    try:
        if not is_remote(path) and path.stat().st_size > _LARGEST:
            raise InputError(f"{path} has more than {_LARGEST >> 20} MB; it is not a file of ours.")
        return parse_json(read_bytes(path), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def parse_json(text: str | bytes, where: object) -> Any:
    """The value of a JSON text; NaN is a number, as Python writes it.

    Args:
        text: UTF-8.
        where: The file, for the error.

    Raises:
        InputError: It is not JSON, or nested more than 64 levels deep.

    Example:
        >>> parse_json('{"a": [1, NaN]}', "a.json")
        {'a': [1, nan]}
    """
    try:
        value = json.loads(text)
        if "\\ud" in str(text):  # half of a surrogate pair is a text that cannot be written
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{where} is damaged: it is not JSON: {str(error)[:200]}.") from error
    layer = [value]
    for _ in range(_DEEPEST):
        layer = [
            part
            for each in layer
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
        ]
    if layer:
        raise InputError(f"{where} is damaged: it is nested more than {_DEEPEST} levels deep.")
    return value


def typed(data: Any, kind: type[T], where: object) -> T:
    """A value of JSON as an object of a type. Fields that a newer version added are left out.

    Args:
        data: From `parse_json`.
        kind: A dataclass, a `msgspec.Struct`, or any annotation that msgspec reads.
        where: The file, for the error.

    Raises:
        InputError: It does not fit the type; the message names the field.

    Example:
        >>> typed({"size": [3, "4"]}, dict[str, Size], "a.json")
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: a.json is damaged: expected `int`, got `str` in ...[1].
    """
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        words, _, field = str(error).partition(" - at `$")
        field = field.strip("`.")
        words = f"{words[:1].lower()}{words[1:]}{'' if _SAYS.search(words) else _got(data, field)}"
        place = f" in {field}" if field else ""
        raise InputError(f"{where} is damaged: {words}{place}.") from error


def rounded(value: float | None) -> float | None:
    """A number with the seven digits that float32 has; None where it is not finite."""
    return None if value is None or not isfinite(value) else float(f"{value:.7g}")


def one_line(value: object) -> str:
    """A value of a file in a message: one line, at most 60 characters."""
    return " ".join(str(value).split())[:60]


def _got(data: Any, field: str) -> str:
    """What is at a place such as `encoder.widths[2]`, in words; empty if it cannot be told."""
    try:
        for key in re.findall(r"[^.\[\]]+", field):
            data = data[int(key) if isinstance(data, list) else key]
    except (LookupError, ValueError, TypeError):
        return ""
    return "" if isinstance(data, dict | list) else f", got {repr(data)[:60]}"
