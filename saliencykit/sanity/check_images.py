"""load_check_images(): the images that a masker is checked on, from any data set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels
from saliencykit.data.dataset import Dataset
from saliencykit.sanity.masks import predicted_labels


@final
@dataclass(frozen=True)
class CheckImages:
    """Images with the classes that the model predicts.

    Attributes:
        images: (N, C, H, W) on the CPU.
        labels: (N,), the model's predictions.
        missing: Why images could not be used, and how many.
    """

    images: Images
    labels: Labels
    missing: Mapping[str, int]


def load_check_images(data: Any, black_box: BlackBox, max_images: int | None = None) -> CheckImages:
    """Read images for sanity checks. Labels are not needed: a mask explains what the model
    predicts, right or wrong.

    Args:
        data: A folder with its subfolders, a CSV file, `voc:...` or `coco:...` as for `evaluate`; a
            tensor (N, C, H, W); an iterable of images (paths, PIL images, arrays), of (image,
            label) or of `Sample`.
        black_box: Prepares and classifies the images.
        max_images: Maximum number of images, >= 1; of a folder or a list evenly spaced ones, so
            that each subfolder has its share. None: all.

    Raises:
        InputError: No image could be read, or the form of the data is unknown.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(6, generator=torch.Generator().manual_seed(0))
        >>> loaded = load_check_images(images, black_box, max_images=3)
        >>> loaded.labels.tolist() == labels[::2].tolist()
        True
    """
    checks.counts("sanity_checks", max_images=max_images)
    images, missing = list[Tensor](), Counter[str]()
    opened = Dataset.open(data, black_box, use_labels=False)
    for each in opened.evenly_spaced(max_images):
        if each.image is None:
            missing[each.failure or ""] += 1
        elif images and each.image.shape[1:] != images[0].shape[1:]:
            missing["of another size than the first image"] += 1
        else:
            images.append(each.image.float())
    if not images:
        raise InputError(
            f"sanity checks: no image of {str(data)[:80]!r} could be read. "
            f"{next(iter(missing), '')}"
        )
    every = torch.cat(images)
    return CheckImages(every, predicted_labels(black_box, every), dict(missing))
