"""The forms in which a data set can be given, as records; no image is opened here."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.data import archives
from saliencykit.data.annotations import Annotations, annotated, read_annotations
from saliencykit.data.archives import Archives, archive_paths, archives_below, names_below
from saliencykit.data.image_files import refuse_url
from saliencykit.data.image_folder import NoImagesError, folder_records, is_image
from saliencykit.data.parquet_images import ParquetImages
from saliencykit.data.record import DatasetItem, Label, Record, split_pair
from saliencykit.data.table import TABLES, label_of, read_labels, read_table
from saliencykit.data.tar_archive import TarArchive
from saliencykit.data.voc_coco import detection_records, is_detection_set, open_detection
from saliencykit.storage.locations import files_below, is_remote, location

Labels: TypeAlias = str | Path | Mapping[str, Label] | Sequence[Label] | Tensor
"""Labels by image name (a mapping or a table), or one per image in their order."""
_VALIDATION = Path("CLS-LOC", "val")  # of ImageNet's ILSVRC tree
_DETECTION = ("voc:", "coco:")
_FORMS = (
    "a folder, a CSV or JSON lines file, a tar or Parquet file, 'shards/{000..063}.tar', "
    "voc:FOLDER, coco:FOLDER,annotations=FILE, or in Python a tensor (N, C, H, W), a list, a torch "
    "data set or an iterable of images or pairs (image, label)"
)


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
        some = _of_items(source, black_box, classes, use_labels)
    if labels is not None and named is None:
        some = _in_order(list(some), labels)
    return (
        replace(some, most=max_images)
        if isinstance(some, _Lazy)
        else list(islice(some, max_images))
    )


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


@dataclass(frozen=True)
class _Lazy:
    """Records of an iterable, read one at a time; as often as the iterable can be read."""

    items: Iterable[Any]
    most: int | None = None

    def __iter__(self) -> Iterator[Record]:
        return islice(_expanded(self.items), self.most)


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
        raise InputError(f"{str(source)!r} is not a folder or a table; data must be {_FORMS}.")
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


def _of_items(
    items: Any, black_box: BlackBox, classes: Mapping[str, int] | None, use_labels: bool
) -> Iterable[Record]:
    if is_detection_set(items):
        return detection_records(items, black_box, classes, use_labels=use_labels)
    if isinstance(items, Sample):
        items = [items]
    if isinstance(items, Tensor | np.ndarray) and (items.ndim != 4 or not len(items)):
        raise InputError(
            f"data must be {_FORMS}; got {name_of(items)} of shape {tuple(items.shape)}."
        )
    if isinstance(items, list | tuple | Tensor | np.ndarray):
        return list(_expanded(items))
    if hasattr(items, "__len__") and hasattr(items, "__getitem__"):
        targets = getattr(items, "targets", None)
        known = targets if targets is not None and len(targets) == len(items) else None
        return [
            Record(str(i), DatasetItem(items, i), None if known is None else _plain(known[i]))
            for i in range(len(items))
        ]
    if isinstance(items, Iterable):
        return _Lazy(items)
    raise InputError(f"data must be {_FORMS}; got {name_of(items)}.")


def _expanded(items: Iterable[Any]) -> Iterator[Record]:
    """Samples, batches, pairs and single images, one record per image."""
    count = 0
    for number, item in enumerate(items):
        for record in _of_item(item, number, count):
            count += 1
            yield record


def _of_item(item: Any, number: int, count: int) -> Iterator[Record]:
    if isinstance(item, Sample):
        for row, (image, label) in enumerate(zip(item.images, item.labels.tolist(), strict=True)):
            name = str(count + row) if item.names is None else item.names[row]
            boxes = None if item.boxes is None else item.boxes[row]
            inside = None if item.inside is None else item.inside[row]
            yield Record(name, image, label, boxes, inside=inside)
        return
    try:
        image, label = split_pair(item)
    except TypeError as error:
        raise InputError(f"item {number} of the data is {error}.") from error
    if isinstance(image, Tensor) and image.ndim == 4:
        labels = [None] * len(image) if label is None else _batch_labels(label, len(image), number)
        for row, (one, own) in enumerate(zip(image, labels, strict=True)):
            yield Record(f"{number}.{row}", one, own)
    elif isinstance(image, str | bytes | os.PathLike | Tensor | np.ndarray | Image.Image):
        name = str(image) if isinstance(image, str | os.PathLike) else str(number)
        yield Record(name, image, label)
    else:
        raise InputError(
            f"item {number} of the data is {name_of(item)}; expected an image, a pair (image, "
            "label) or a Sample."
        )


def _batch_labels(labels: Any, count: int, number: int) -> list[Label]:
    given = [labels] if not hasattr(labels, "__len__") else [_plain(each) for each in labels]
    if len(given) != count:
        raise InputError(
            f"item {number} of the data is a batch of {count} images and {len(given)} labels."
        )
    return given


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, Tensor) else label
