"""Folders of images: one folder per class, or all images in one."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.data.archives import SUFFIXES as ARCHIVES
from saliencykit.data.label_lookup import class_index
from saliencykit.data.record import Record
from saliencykit.storage.locations import files_below, is_remote, location

_FORMATS = "jpg jpeg png webp bmp gif tif tiff ppm pgm avif"
SUFFIXES = tuple(f".{name}" for name in _FORMATS.split())


def is_image(path: Path) -> bool:
    """Whether a file has an image's suffix and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


class NoImagesError(InputError):
    """A folder has no images."""


def read_folder(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """The images in a folder, sorted by path.

    Args:
        folder: The folder; hidden files and files without an image's suffix are left out.
        recursive: Include the images in its subfolders.

    Raises:
        InputError: It is not a folder, or it has no images.
    """
    return list(_listed(location(folder), recursive=recursive))


def _listed(folder: Path, *, recursive: bool) -> dict[Path, str | None]:
    """The images by path, with the keys of remote ones."""
    if not is_remote(folder) and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder.")
    files = dict(files_below(folder, recursive=recursive))
    paths = {path: key for path, key in files.items() if is_image(path)}
    if not paths:
        raise NoImagesError(
            f"there are no images in {str(folder)!r}; images end in {', '.join(SUFFIXES)}."
        )
    if archives := [path.name for path in files if path.suffix in ARCHIVES]:
        warnings.warn(
            f"{str(folder)!r} has images and {len(archives)} tar or Parquet files, such as "
            f"{min(archives)}, which are not read; give them alone to read their images.",
            stacklevel=2,
        )
    return dict(sorted(paths.items()))


def folder_records(
    folder: Path,
    black_box: BlackBox,
    classes: Mapping[str, int] | None = None,
    *,
    look_up: bool = True,
) -> list[Record]:
    """The images of a folder and its subfolders, sorted by path; the name of the subfolder is the
    class.

    If the model knows none of the subfolders' names and there are as many subfolders as classes,
    the subfolders in sorted order are the classes, as in torchvision's ImageFolder. Images directly
    in the folder have no label.

    Args:
        folder: Records are named by their paths inside it, with `/`.
        black_box: The model that has the classes.
        classes: See `class_index`.
        look_up: False: no image has a label, whatever its subfolder is called.

    Raises:
        InputError: There are no images, or the model does not have a class.
    """
    paths = _listed(folder, recursive=True)
    inside = [path.relative_to(folder) for path in paths]
    names = sorted({path.parts[0] for path in inside if len(path.parts) > 1})
    known = _folder_classes(names, black_box, classes) if look_up else {}
    return [
        Record(
            short.as_posix(),
            str(path) if is_remote(path) else path,
            known.get(short.parts[0]) if len(short.parts) > 1 else None,
            file_key=key,
        )
        for (path, key), short in zip(paths.items(), inside, strict=True)
    ]


def _folder_classes(
    names: list[str], black_box: BlackBox, classes: Mapping[str, int] | None
) -> dict[str, int]:
    known: dict[str, int] = {}
    failures: dict[str, InputError] = {}
    for name in names:
        try:
            known[name] = class_index(name, black_box, classes)
        except InputError as error:
            failures[name] = error
    if failures and not known and classes is None and len(names) == black_box.num_classes:
        return {name: index for index, name in enumerate(names)}
    for name, failure in failures.items():
        raise InputError(
            f"folder {name!r} is not a class of the model: {failure} Give "
            f"classes={{{name!r}: 0, ...}}, or one label per image in labels=."
        ) from failure
    return known
