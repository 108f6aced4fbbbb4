"""From attributions to a mask."""

import torch
from torch import Tensor

from saliencykit.core.types import Mask

NONFINITE_HINT = (
    "look for a square root, logarithm or division at 0 in the model, or use masker='rise' or "
    "'occlusion', which need no gradients."
)
"""What to do about a gradient that is NaN or infinite."""


def mask_from_attributions(attributions: Tensor, noise_floor: Tensor | None = None) -> Mask:
    """The positive part of each map, divided by its maximum.

    Zero stays zero: pixels that make no difference, or that speak against the label, are not kept.

    Args:
        attributions: (B, 1, h, w), signed.
        noise_floor: (B,), >= 0: a map whose maximum is below this is rounding noise, and is divided
            by the floor instead. None: 0.

    Returns:
        (B, 1, h, w) in [0, 1].

    Example:
        >>> mask_from_attributions(torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]]])).flatten().tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    positive = attributions.clamp_min(0)
    largest = positive.amax((1, 2, 3))
    if noise_floor is not None:
        largest = torch.maximum(largest, noise_floor)
    largest = largest.clamp_min(torch.finfo(attributions.dtype).tiny)
    return (positive / largest.view(-1, 1, 1, 1)).clamp_max(1)
