"""Class names: from a file, a line or an entry for each class; and as many as there are classes."""

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
            raise InputError(
                f"class_names is a file, or a list with one name per class; got {name_of(given)}."
            )
        return tuple(given)
    path = Path(given).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.strip("\n").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"the class names cannot be read from {str(path)!r}: {error}.") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{str(path)!r} holds no class names; it has one name a line, or is a JSON list of "
            "texts."
        )
    return tuple(name.strip() for name in names)


def check_names(names: Sequence[str] | None, count: int, who: str) -> None:
    """One name per class, where there are names.

    Args:
        names: As they were given, or None.
        count: K, the length of a row of the answer.
        who: Who answered, for the error.

    Raises:
        InputError: There are more or fewer.

    Example:
        >>> check_names(["cat", "dog"], 2, "my model")
    """
    if names is not None and len(names) != count:
        raise InputError(
            f"{who} has {count} classes, and {len(names)} class_names were given; give one for "
            "each, in the order of the answer."
        )
