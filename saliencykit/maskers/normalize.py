"""What many maskers share: the answers to many edits of one picture, and the mask in a map of
scores.
"""

import torch
from torch import Tensor

from saliencykit.core import class_scores
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images, Mask

NOT_FINITE = "look for a square root, logarithm or division at 0 in the model, or use masker='rise' or 'occlusion', which only ask."
"""What to do about a gradient that is NaN or infinite."""


def probabilities(black_box: BlackBox, edits: Images, label: Tensor) -> Tensor:
    """The probability of one label in each edit, (n,).

    Args:
        black_box: Asked once.
        edits: (n, C, H, W), as many as are asked together.
        label: (1,) int64.
    """
    return class_scores.probability(black_box(edits), label.expand(len(edits)))


def mask_of_scores(scores: Tensor, floor: Tensor | None = None) -> Mask:
    """What speaks for the label: the positive part of each map, divided by its maximum.

    Zero stays zero: pixels that make no difference, or speak against the label, are not kept.

    Args:
        scores: (B, 1, h, w), signed.
        floor: (B,), >= 0: a map that stays below it is rounding noise and is divided by the floor
            instead. None: 0.

    Example:
        >>> mask_of_scores(torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]]])).flatten().tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    positive = scores.clamp_min(0)
    largest = (
        positive.amax((1, 2, 3))
        if floor is None
        else torch.maximum(positive.amax((1, 2, 3)), floor)
    )
    return (
        positive / largest.clamp_min(torch.finfo(scores.dtype).tiny).view(-1, 1, 1, 1)
    ).clamp_max(1)
