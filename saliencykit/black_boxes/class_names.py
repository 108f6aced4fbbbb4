"""Class names: reading them from a file or a folder of classes, and checking their number."""

from collections.abc import Sequence
from pathlib import Path

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.storage.typed_json import read_json


def read_class_names(names: str | Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of a model's classes, in the order of its outputs.

    Args:
        names: The names; a text file with one name per line; a `.json` file with a list; a folder
            with one subfolder per class, in the order of torchvision's `ImageFolder`; or None.

    Raises:
        InputError: The file cannot be read or holds something else.

    Example:
        >>> read_class_names(["cat", "dog"])
        ('cat', 'dog')
    """
    if names is None:
        return None
    if not isinstance(names, str | Path):
        if not isinstance(names, Sequence) or not _all_text(names):
            raise InputError(
                "class_names must be a file, or a list with one name per class; got "
                f"{name_of(names)}."
            )
        return tuple(names)
    path = Path(names).expanduser()
    if path.is_dir():
        folders = (child.name for child in path.iterdir() if child.is_dir())
        return tuple(sorted(name for name in folders if not name.startswith(".")))
    refuse_special_file(path)
    try:
        read = (
            read_json(path)
            if path.suffix == ".json"
            else path.read_text(encoding="utf-8").strip("\n").splitlines()
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read class names from {str(path)!r}: {error}.") from error
    if not isinstance(read, list) or not read or not _all_text(read):
        raise InputError(
            f"{str(path)!r} does not contain class names; expected one name per line, or a JSON "
            "list of strings."
        )
    return tuple(name.strip() for name in read)


def check_class_names(names: Sequence[str] | None, num_classes: int, who: str) -> None:
    """Check that there is one name per class, or none at all.

    Args:
        names: The names, or None.
        num_classes: K.
        who: The model's name, for the error.

    Raises:
        InputError: There are more or fewer.

    Example:
        >>> check_class_names(["cat", "dog"], 2, "my model")
    """
    if names is not None and len(names) != num_classes:
        raise InputError(
            f"{who} has {num_classes} classes, and {len(names)} class_names were given; give one "
            "for each, in the order of the outputs."
        )


def _all_text(names: Sequence[object]) -> bool:
    return all(isinstance(name, str) for name in names)
