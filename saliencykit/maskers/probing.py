"""What the maskers that only ask share: the answers to many edits of one picture, and the mask in a map of scores."""

import torch
from torch import Generator, Tensor

from saliencykit.core import evidence
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images, Mask

_LARGEST = 64  # edits at once: 38 MB of pixels at 224 px, so that a box without a limit does not fill the memory
_UNLIMITED = 32  # for a box that names no limit


def micro_batch(black_box: BlackBox) -> int:
    """How many edits are made and asked at once: the box's `max_batch`, at most 64; 32 if it names none."""
    return min(black_box.max_batch or _UNLIMITED, _LARGEST)


def probabilities(black_box: BlackBox, edits: Images, label: Tensor) -> Tensor:
    """The probability of one label, a tensor (1,), in each of the edits, (n,)."""
    return evidence.probability(black_box(edits), label.expand(len(edits)))


def single_fill(alternative: Alternative, image: Images, generator: Generator) -> Images | None:
    """The one fill that stands for `alternative` in all edits of the image; None if each mask has a fill or an edit of its own."""
    if alternative.uses_mask or type(alternative).edit is not Alternative.edit:
        return None
    return alternative(image, generator=generator)


def mask_of_scores(scores: Tensor, floor: Tensor) -> Mask:
    """What speaks for the label: the positive part of each map, divided by its maximum.

    Zero stays zero: pixels that make no difference, or speak against the label, are not kept.

    Args:
        scores: (B, 1, h, w), signed.
        floor: (B,), >= 0: a map that stays below it is rounding noise and is divided by the floor instead.

    Example:
        >>> mask_of_scores(torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]]]), torch.zeros(1)).flatten().tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    positive = scores.clamp_min(0)
    largest = torch.maximum(positive.amax((1, 2, 3)), floor).clamp_min(torch.finfo(scores.dtype).tiny)
    return (positive / largest.view(-1, 1, 1, 1)).clamp_max(1)
