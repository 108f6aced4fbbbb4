"""A folder of pictures as entries: one folder per class, or all in one."""

from collections.abc import Mapping
from pathlib import Path

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.data.images import read_folder
from saliencykit.data.label_lookup import class_index
from saliencykit.data.record import Record


def folder_entries(
    folder: Path,
    black_box: BlackBox,
    classes: Mapping[str, int] | None = None,
    *,
    look_up: bool = True,
) -> list[Record]:
    """The pictures of a folder, sorted by path; those in folders of it have these folders' names as
    their class.

    If the model knows none of the folders' names, and there are as many folders as it has classes,
    the folders in sorted order are the classes, as torchvision's ImageFolder has it. Pictures
    directly in the folder have no label.

    Args:
        folder: Names of entries are paths inside it, with `/`.
        black_box: The model that the folders' names must be classes of.
        classes: See `class_index`.
        look_up: False: no picture has a label, whatever its folder is called.

    Raises:
        InputError: There is no picture, or the model does not know a class.
    """
    paths = read_folder(folder, recursive=True)
    inside = [path.relative_to(folder) for path in paths]
    names = sorted({path.parts[0] for path in inside if len(path.parts) > 1})
    known = _folder_classes(names, black_box, classes) if look_up else {}
    return [
        Record(short.as_posix(), path, known.get(short.parts[0]) if len(short.parts) > 1 else None)
        for path, short in zip(paths, inside, strict=True)
    ]


def _folder_classes(
    names: list[str], black_box: BlackBox, classes: Mapping[str, int] | None
) -> dict[str, int]:
    found: dict[str, int] = {}
    failures: dict[str, InputError] = {}
    for name in names:
        try:
            found[name] = class_index(name, black_box, classes)
        except InputError as error:
            failures[name] = error
    if failures and not found and classes is None and len(names) == black_box.num_classes:
        return {name: index for index, name in enumerate(names)}
    for name, failure in failures.items():
        raise InputError(
            f"folder {name!r} is no class of the model: {failure} Give "
            f"classes={{{name!r}: 0, ...}}, or one per picture in labels=."
        ) from failure
    return found
