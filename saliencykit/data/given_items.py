"""Images given in Python, in tensors, lists, torch data sets and iterables, as records."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

import numpy as np
from PIL import Image
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.data.record import DatasetItem, Label, Record, split_pair

FORMS = (
    "a folder, a CSV or JSON lines file, a tar or Parquet file, 'shards/{000..063}.tar', "
    "voc:FOLDER, coco:FOLDER,annotations=FILE, or in Python a tensor (N, C, H, W), a list, a torch "
    "data set or an iterable of images or pairs (image, label)"
)
"""What data may be, in words."""


def item_records(items: Any) -> Iterable[Record]:
    """The records of a tensor, a list, a torch data set or an iterable.

    Args:
        items: Images, pairs (image, label), batches of them, or Samples.

    Raises:
        InputError: It is none of these; of an iterable, when the item comes.
    """
    if isinstance(items, Sample):
        items = [items]
    if isinstance(items, Tensor | np.ndarray) and (items.ndim != 4 or not len(items)):
        raise InputError(
            f"data must be {FORMS}; got {name_of(items)} of shape {tuple(items.shape)}."
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
        return LazyRecords(items)
    raise InputError(f"data must be {FORMS}; got {name_of(items)}.")


@final
@dataclass(frozen=True)
class LazyRecords:
    """Records of an iterable, read one at a time; as often as the iterable can be read.

    Args:
        items: The iterable.
        most: Of the records, the first so many; None for all.
    """

    items: Iterable[Any]
    most: int | None = None

    def __iter__(self) -> Iterator[Record]:
        return islice(_expanded(self.items), self.most)


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
