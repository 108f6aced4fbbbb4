"""Queries with many edits of the same images: how many at once, the fill that they share, and what
scores are relative to.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.output import Meaning, RelativeScores
from saliencykit.core.types import Images

# 38 MB of pixels at 224 px, so that a black box without a limit does not fill the memory
_LARGEST = 64
_UNLIMITED = 32  # for a black box that names no limit


def micro_batch(black_box: BlackBox) -> int:
    """How many edits to make and query at once.

    Args:
        black_box: The classifier.

    Returns:
        Its `max_batch_size`, at most 64; 32 if it has none.
    """
    return min(black_box.max_batch_size or _UNLIMITED, _LARGEST)


def in_batches(size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The rows of several tensors together, at most `size` at a time.

    Example:
        >>> [len(some) for some, _ in in_batches(2, torch.zeros(3), torch.ones(3))]
        [2, 1]
    """
    return zip(*(torch.split(each, size) for each in tensors), strict=True)


def relative_output(
    black_box: BlackBox, images: Images, alternative: Alternative | None, generator: Generator
) -> Meaning:
    """What probabilities of edits of these images are computed with.

    Args:
        black_box: The classifier.
        images: (B, C, H, W) on its device.
        alternative: What replaces removed pixels; None: the mean color of each image.
        generator: The fill is drawn from it, if there is one.

    Returns:
        The black box's `output`; for scores `RelativeScores`, at two queries per image.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> relative_output(PlantedEvidence(), torch.rand(2, 3, 8, 8), None, Generator())
        'softmax'
    """
    if black_box.output != "score":
        return black_box.output
    with torch.no_grad():
        if alternative is None:
            replaced = images.mean((2, 3), keepdim=True).expand_as(images)
        else:
            nothing = torch.zeros_like(images[:, :1])
            replaced = alternative.for_black_box(black_box).edit(images, nothing, generator)
        return RelativeScores(black_box(images), black_box(replaced))


def shared_fill(alternative: Alternative, images: Images, generator: Generator) -> Images | None:
    """The one fill of an alternative that all edits of the same images share.

    Args:
        alternative: What replaces removed pixels.
        images: (B, C, H, W).
        generator: The fill is drawn from it.

    Returns:
        (B, C, H, W), to be used with `compose`; None if each mask has a fill or an edit of its own,
        by `alternative.edit`.
    """
    if alternative.uses_mask or type(alternative).edit is not Alternative.edit:
        return None
    return alternative(images, generator=generator)
