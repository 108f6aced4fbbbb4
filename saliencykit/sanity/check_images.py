"""shown(): the pictures that a masker is checked on, from whatever they come in."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.core.types import Images, Labels
from saliencykit.data.images import read_folder
from saliencykit.data.samples import read_samples
from saliencykit.sanity.masks import own_answers


@final
@dataclass(frozen=True)
class CheckImages:
    """Pictures with the class that the model gives each.

    Attributes:
        images: (N, C, H, W) on the CPU.
        labels: (N,), the model's own answers.
        missing: Why pictures could not be used, and how many.
    """

    images: Images
    labels: Labels
    missing: Mapping[str, int]


def load_check_images(data: Any, black_box: BlackBox, max_images: int | None = None) -> CheckImages:
    """Read pictures for sanity checks. Labels are not needed: a mask explains what the model
    answers, right or wrong.

    Args:
        data: A folder with its folders, a CSV file, `voc:...` or `coco:...` as for `evaluate`; a
            tensor (N, C, H, W); an iterable of pictures (paths, PIL pictures, arrays), of (picture,
            label) or of `Sample`.
        black_box: Prepares the pictures, and answers.
        max_images: At most so many, >= 1; of a folder or a list evenly spaced ones, so that all of its
            folders have their share.

    Raises:
        InputError: No picture could be read, or the data are of no known form.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(6, generator=torch.Generator().manual_seed(0))
        >>> load_check_images(images, black_box, max_images=3).labels.tolist() == labels[::2].tolist()
        True
    """
    if max_images is not None and max_images < 1:
        raise InputError(
            f"sanity checks: max_images={max_images}; a number of pictures, >= 1, or None for all."
        )
    images, missing = list[Tensor](), Counter[str]()
    for reading in read_samples(_spread(data, max_images), black_box, max_images=max_images):
        if reading.sample is None:
            missing[reading.reason or ""] += 1
        elif images and reading.sample.images.shape[1:] != images[0].shape[1:]:
            missing["of another size than the first picture"] += len(reading.sample.images)
        else:
            images.append(reading.sample.images.float())
    if not images:
        raise InputError(
            f"sanity checks: no picture of {str(data)[:80]!r} could be read. "
            f"{next(iter(missing), '')}"
        )
    every = torch.cat(images)
    return CheckImages(every, own_answers(black_box, every), dict(missing))


def _spread(data: Any, max_images: int | None) -> Any:
    if isinstance(data, str | os.PathLike):
        if data == "" or not Path(data).expanduser().is_dir():
            return data
        data = read_folder(Path(data), recursive=True)
    if isinstance(data, Tensor) and data.ndim != 4:
        raise InputError(
            f"sanity checks take a tensor of pictures as (N, C, H, W); got {tuple(data.shape)}."
        )
    if (
        isinstance(data, list | tuple | Tensor)
        and max_images is not None
        and len(data) > max_images
    ):
        data = [data[i * len(data) // max_images] for i in range(max_images)]
    return _pairs(data) if hasattr(data, "__iter__") else data


def _pairs(data: Any) -> Iterator[Any]:
    """Whatever has no label gets none, which is the form that an iterable of pictures is read in."""
    for item in data:
        yield (
            item
            if isinstance(item, Sample) or (isinstance(item, tuple | list) and len(item) == 2)
            else (item, None)
        )
