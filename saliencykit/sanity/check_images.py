"""shown(): the pictures that a masker is checked on, from whatever they come in."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels
from saliencykit.data.dataset import Dataset
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
    opened = Dataset.open(data, black_box, use_labels=False)
    for each in opened.evenly_spaced(max_images):
        if each.image is None:
            missing[each.failure or ""] += 1
        elif images and each.image.shape[1:] != images[0].shape[1:]:
            missing["of another size than the first picture"] += 1
        else:
            images.append(each.image.float())
    if not images:
        raise InputError(
            f"sanity checks: no picture of {str(data)[:80]!r} could be read. "
            f"{next(iter(missing), '')}"
        )
    every = torch.cat(images)
    return CheckImages(every, own_answers(black_box, every), dict(missing))
