"""Class names from a file: a line or an entry for each class."""

import json
from collections.abc import Sequence
from pathlib import Path

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError


def read_class_names(given: str | Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of a model's classes, in the order of its outputs.

    Args:
        given: The names; a text file with one name a line; a `.json` file with a list; or None.

    Raises:
        InputError: The file cannot be read or holds something else.

    Example:
        >>> read_class_names(["cat", "dog"])
        ('cat', 'dog')
    """
    if given is None:
        return None
    if not isinstance(given, str | Path):
        if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
            raise InputError(f"class_names is a file, or a list with one name per class; got {name_of(given)}.")
        return tuple(given)
    path = Path(given).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.strip("\n").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"the class names cannot be read from {str(path)!r}: {error}.") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{str(path)!r} holds no class names; it has one name a line, or is a JSON list of texts.")
    return tuple(name.strip() for name in names)
