"""What a data set is, told from how it is given: its entries, nothing opened yet."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.data.annotations import Annotations, annotated, read_annotations
from saliencykit.data.csv_table import csv_entries, label_of, read_labels
from saliencykit.data.image_folder import folder_entries
from saliencykit.data.record import Label, Record
from saliencykit.data.voc_coco import detection_entries, from_text

_ILSVRC = Path("CLS-LOC", "val")
_OTHERS = "other sources are voc:FOLDER, coco:FOLDER,annotations=FILE, or from Python an iterable of (image, label)."


def records_of(
    source: "str | Path | Iterable[Any]",
    black_box: BlackBox,
    labels: "str | Path | Mapping[str, Label] | None" = None,
    boxes: "str | Path | None" = None,
    classes: Mapping[str, int] | None = None,
    *,
    look_up: bool = True,
) -> Iterable[Record | Sample]:
    """The entries of a source of any form.

    The arguments are those of `read_samples`; with `look_up=False` the names of a folder's folders
    are no classes.

    Raises:
        InputError: The source cannot be used, or the other arguments do not go with it.
    """
    named = (
        None
        if labels is None
        else read_labels(labels if isinstance(labels, Mapping) else Path(labels).expanduser())
    )
    things = None if boxes is None else read_annotations(Path(boxes).expanduser())
    if not isinstance(source, str | os.PathLike):
        if named is not None or things is not None:
            raise InputError(
                "labels and boxes go with a folder or a CSV file; an iterable brings its own."
            )
        return _of_items(source, black_box, classes)
    if isinstance(source, str) and source.startswith(("voc:", "coco:")):
        return _of_items(from_text(source), black_box, classes)
    path = Path(source).expanduser()
    if source != "" and path.is_dir():  # "" would be the directory that one is in
        pictures = path / "Data" / _ILSVRC
        if pictures.is_dir():
            path, things = pictures, things or _ilsvrc_boxes(path)
        entries = folder_entries(path, black_box, classes, look_up=look_up and named is None)
    elif path.suffix.lower() == ".csv" and path.is_file():
        entries = csv_entries(path)
    else:
        raise InputError(f"{str(source)!r} is neither a folder nor a CSV file; {_OTHERS}")
    if named is not None:
        entries = [_labelled(entry, label_of(entry.name, named)) for entry in entries]
    return entries if things is None else _with_boxes(entries, things, black_box, classes)


def count_of(entries: Iterable[Record | Sample], limit: int | None) -> int | None:
    """How many pictures the entries have, at most `limit`; None where they are made one after the
    other.
    """
    if not isinstance(entries, list | tuple):
        return None
    count = sum(len(each.images) if isinstance(each, Sample) else 1 for each in entries)
    return count if limit is None else min(count, limit)


def _labelled(entry: Record, label: Label | None) -> Record:
    reason = f"labels= has no label for {entry.name}." if label is None else entry.reason
    return replace(entry, label=label, reason=reason)


def _ilsvrc_boxes(root: Path) -> Annotations | None:
    """The official boxes of the validation pictures, as the archives or the challenge's table have
    them.
    """
    places = (
        root / "Annotations" / _ILSVRC,
        root / "LOC_val_solution.csv",
        root.parent / "LOC_val_solution.csv",
    )
    return next((read_annotations(place) for place in places if place.exists()), None)


def _with_boxes(
    entries: Iterable[Record],
    things: Annotations,
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
) -> Iterator[Record]:
    for entry in entries:
        try:
            yield from annotated(entry, things(entry.name), black_box, classes)
        except InputError as error:
            yield replace(entry, reason=str(error))


def _of_items(
    items: Any, black_box: BlackBox, classes: Mapping[str, int] | None
) -> Iterable[Record | Sample]:
    """From torchvision's data sets, from Samples, and from pairs of an image, or a batch of images,
    and its label.
    """
    if isinstance(items, Iterable) or hasattr(items, "__getitem__"):
        return detection_entries(items, black_box, classes) or _of_pairs(items)
    raise InputError(
        f"a source of samples is a folder, a CSV file or an iterable; got {name_of(items)}."
    )


def _of_pairs(items: Iterable[Any]) -> Iterator[Record | Sample]:
    for index, item in enumerate(items):
        if isinstance(item, Sample):
            yield item
        elif isinstance(item, tuple | list) and len(item) == 2:
            image, label = item
            if (
                isinstance(image, Tensor)
                and image.ndim == 4
                and isinstance(label, Tensor)
                and label.ndim == 1
            ):
                if len(image) != len(label):
                    raise InputError(
                        f"item {index} of the samples is a batch of {len(image)} images and "
                        f"{len(label)} labels."
                    )
                for row, (one, own) in enumerate(zip(image, label.tolist(), strict=True)):
                    yield Record(f"{index}.{row}", one, own)
                continue
            name = str(image) if isinstance(image, str | os.PathLike) else str(index)
            given: Any = label.item() if isinstance(label, Tensor) else label
            yield Record(name, image, given)
        else:
            raise InputError(
                f"item {index} of the samples is {name_of(item)}; expected a Sample or a pair "
                "(image, label)."
            )
