"""What a data set is, told from how it is given: its entries, nothing opened yet."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.data.entry import Entry, Label
from saliencykit.data.folders import folder_entries


def entries_of(
    source: "str | Path | Iterable[Any]",
    black_box: BlackBox,
    labels: "str | Path | Mapping[str, Label] | None",
    boxes: "str | Path | None",
    classes: Mapping[str, int] | None,
) -> Iterable[Entry | Sample]:
    """The entries of a source of any form; the arguments are those of `read_samples`."""
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if path.is_dir():
            return folder_entries(path, black_box, classes)
        raise InputError(f"{str(source)!r} is neither a folder nor a CSV file.")
    if isinstance(source, Iterable):
        return _of_items(source)
    raise InputError(f"a source of samples is a folder, a CSV file or an iterable; got {name_of(source)}.")


def _of_items(items: Iterable[Any]) -> Iterator[Entry | Sample]:
    """From Samples, and from pairs of an image or a batch of images and its labels."""
    for index, item in enumerate(items):
        if isinstance(item, Sample):
            yield item
        elif isinstance(item, tuple | list) and len(item) == 2:
            image, label = item
            if isinstance(image, Tensor) and image.ndim == 4 and isinstance(label, Tensor) and label.ndim == 1:
                yield from (Entry(f"{index}.{row}", one, int(own)) for row, (one, own) in enumerate(zip(image, label, strict=True)))
                continue
            name = str(image) if isinstance(image, str | os.PathLike) else str(index)
            yield Entry(name, image, int(label) if isinstance(label, Tensor) else label)
        else:
            raise InputError(
                f"item {index} of the samples is {name_of(item)}; expected a Sample, or a pair of an image and its label."
            )
