"""What the maskers that only ask share: the answers to many edits of one picture, and the mask in a map of scores."""

import torch
from torch import Tensor

from saliencykit.core import evidence
from saliencykit.core.black_box import BlackBox
from saliencykit.core.edits import micro_batch as micro_batch
from saliencykit.core.edits import single_fill as single_fill
from saliencykit.core.types import Images, Mask


def probabilities(black_box: BlackBox, edits: Images, label: Tensor) -> Tensor:
    """The probability of one label, a tensor (1,), in each of the edits, (n,)."""
    return evidence.probability(black_box(edits), label.expand(len(edits)))


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
