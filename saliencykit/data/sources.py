"""The forms in which a data set can be given, as records; no image is opened here."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.data import archives
from saliencykit.data.annotations import Annotations, annotated, read_annotations
from saliencykit.data.archives import Archives, archive_paths, archives_below, names_below
from saliencykit.data.given_items import FORMS, LazyRecords, item_records
from saliencykit.data.image_files import refuse_url
from saliencykit.data.image_folder import NoImagesError, folder_records, is_image
from saliencykit.data.parquet_images import ParquetImages
from saliencykit.data.record import Label, Record
from saliencykit.data.table import TABLES, label_of, read_labels, read_table
from saliencykit.data.tar_archive import TarArchive
from saliencykit.data.voc_coco import detection_records, is_detection_set, open_detection
from saliencykit.storage.locations import files_below, is_remote, location

Labels: TypeAlias = str | Path | Mapping[str, Label] | Sequence[Label] | Tensor
"""Labels by image name (a mapping or a table), or one per image in their order."""
_VALIDATION = Path("CLS-LOC", "val")  # of ImageNet's ILSVRC tree
_DETECTION = ("voc:", "coco:")


def is_data_set(text: str) -> bool:
    """Whether a text names a data set (a folder, a table, archives, `voc:` or `coco:`) and not an
    image.

    Example:
        >>> is_data_set("coco:photos,annotations=a.json"), is_data_set("cat.jpg")
        (True, False)
    """
    files = (*TABLES, *archives.SUFFIXES)
    return text.startswith(_DETECTION) or text.lower().endswith(files) or location(text).is_dir()


def is_folder(source: object) -> bool:
    """Whether a source of data is a folder of images."""
    return isinstance(source, str | os.PathLike) and str(source) != "" and location(source).is_dir()


def archives_of(source: object) -> list[Path]:
    """The tars and Parquet files that a source consists of; empty for other data."""
    if (paths := archive_paths(source)) or not is_folder(source):
        return paths
    folder = location(str(source))
    has_images = any(is_image(path) for path, _ in files_below(folder, recursive=True))
    return [] if has_images else archives_below(folder)


def refuse_inside(directory: Path, source: object, who: str) -> None:
    """Refuse to write into the folder that the images come from: the next call would take results
    for images.

    Args:
        directory: Where results are written.
        source: As `Dataset.open` takes it.
        who: The function that writes, for the error message.

    Raises:
        InputError: The directory is the folder of the images, or inside it.
    """
    if not isinstance(source, str | os.PathLike) or str(source) == "":
        return
    folder, inside = location(source).resolve(), directory.resolve()
    if is_remote(folder) == is_remote(inside) and inside.is_relative_to(folder):
        raise InputError(
            f"{who} would write to {directory}, inside the images in {source}, and the next call "
            "would take its results for images; choose a directory outside of them (--output)."
        )


def records_of(
    source: Any,
    black_box: BlackBox,
    *,
    labels: Labels | None = None,
    boxes: str | Path | None = None,
    classes: Mapping[str, int] | None = None,
    max_images: int | None = None,
    use_labels: bool = True,
) -> Iterable[Record] | Archives:
    """The records of a source of any form; a list where their number is known without reading
    images.

    The arguments are those of `Dataset.open`.

    Raises:
        InputError: The source cannot be used, or the other arguments do not go with it.
    """
    named = _named_labels(labels)
    objects = None if boxes is None else read_annotations(location(boxes))
    some: Iterable[Record]
    if isinstance(source, str | os.PathLike) and not str(source).startswith(_DETECTION):
        edit = partial(_edited, named, black_box=black_box, classes=classes)
        if files := archive_paths(source):
            return _archives(files, labels, partial(edit, objects)).first(max_images)
        try:
            look_up = use_labels and labels is None
            records, trees = _of_path(source, black_box, classes, look_up)
        except NoImagesError:
            if files := archives_below(location(source)):
                return _archives(files, labels, partial(edit, objects)).first(max_images)
            raise
        some = edit(objects or (trees if use_labels else None), records)
    else:
        if named is not None or objects is not None:
            raise InputError(
                "labels by name, and boxes, need a folder or a table; other data contain their own."
            )
        if isinstance(source, str | os.PathLike):
            source = open_detection(str(source))
        if is_detection_set(source):
            some = detection_records(source, black_box, classes, use_labels=use_labels)
        else:
            some = item_records(source)
    if labels is not None and named is None:
        some = _in_order(list(some), labels)
    if isinstance(some, LazyRecords):
        return replace(some, most=max_images)
    chosen = list(islice(some, max_images))
    if isinstance(some, list) and _of_one_class(chosen) and not _of_one_class(some):
        warnings.warn(
            f"the first {len(chosen)} of {len(some)} images are of one class, because they are "
            "sorted by class; use more of them, or list some of each class in a CSV file with the "
            "columns path and label.",
            stacklevel=4,
        )
    return chosen


def _of_one_class(records: Sequence[Record]) -> bool:
    # a label of a damaged table may be anything
    return len({str(record.label) for record in records if record.label is not None}) == 1


def _archives(
    paths: list[Path], labels: object, edit: Callable[[list[Record]], Iterable[Record]]
) -> Archives:
    if labels is not None and not isinstance(labels, Mapping | str | os.PathLike):
        raise InputError("archives take labels by name: a mapping, or a table.")
    kinds = {".tar": TarArchive, ".parquet": ParquetImages}
    for path in paths:
        if not is_remote(path) and not path.is_file():
            raise InputError(f"there is no file {str(path)!r}.")
    named = zip(paths, names_below(paths), strict=True)
    return Archives(tuple(kinds[path.suffix.lower()](path, name) for path, name in named), edit)


def _edited(
    named: Mapping[str, Label] | None,
    objects: Annotations | None,
    records: Iterable[Record],
    *,
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
) -> Iterable[Record]:
    """The records with labels and boxes by name."""
    if named is not None:
        records = [_labeled(record, label_of(record.name, named)) for record in records]
    if objects is None:
        return records
    return _with_boxes(records, objects, black_box, classes)


def _named_labels(labels: Labels | None) -> dict[str, Label] | None:
    """Labels by image name; None where they are given in the images' order, or not at all."""
    if isinstance(labels, Mapping):
        return read_labels(labels)
    if isinstance(labels, str | os.PathLike):
        return read_labels(location(labels))
    return None


def _in_order(records: list[Record], labels: Any) -> list[Record]:
    given = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    if len(given) != len(records):
        raise InputError(
            f"there are {len(records)} images and {len(given)} labels; give one label per image, "
            "or none."
        )
    return [replace(record, label=label) for record, label in zip(records, given, strict=True)]


def _of_path(
    source: str | os.PathLike[str],
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
    look_up: bool,
) -> tuple[list[Record], Annotations | None]:
    """The records of a folder or table, and the boxes that an ImageNet tree has."""
    path = location(source)
    if path.suffix.lower() in TABLES and path.is_file():
        return read_table(path), None
    refuse_url(str(source))
    refuse_special_file(path)
    # "" would be the current directory
    if str(source) == "" or (not is_remote(path) and not path.is_dir()):
        raise InputError(f"{str(source)!r} is not a folder or a table; data must be {FORMS}.")
    images, objects = path / "Data" / _VALIDATION, None
    if images.is_dir():
        places = (
            path / "Annotations" / _VALIDATION,
            path / "LOC_val_solution.csv",
            path.parent / "LOC_val_solution.csv",
        )
        objects = next((read_annotations(place) for place in places if place.exists()), None)
        path = images
    return folder_records(path, black_box, classes, look_up=look_up), objects


def _labeled(record: Record, label: Label | None) -> Record:
    failure = f"labels= has no label for {record.name}." if label is None else record.failure
    return replace(record, label=label, failure=failure)


def _with_boxes(
    records: Iterable[Record],
    objects: Annotations,
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
) -> Iterator[Record]:
    for record in records:
        try:
            yield from annotated(record, objects(record.name), black_box, classes)
        except InputError as error:
            yield replace(record, failure=str(error))
