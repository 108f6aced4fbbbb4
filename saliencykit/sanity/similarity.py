"""The similarity of two masks for one image."""

import torch
from torch import Tensor

from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.class_confusion import correlation
from saliencykit.metrics.ranking import best, ranks


def similarity(one: Mask, other: Mask) -> PerImage:
    """Pearson's correlation over the pixels, (B,); where it is not defined 1 if both masks are
    constant, 0 if one of them is.

    So a masker that always returns the same constant mask does not escape a check because its
    correlation is not defined. NaN where a mask has NaN.

    Args:
        one: (B, 1, H, W).
        other: (B, 1, H, W), of the same images.

    Example:
        >>> constant, ramp = torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0, 1.0]]]])
        >>> similarity(constant, 0.5 * constant).item(), similarity(constant, ramp).item()
        (1.0, 0.0)
    """
    constant = [maps.flatten(1).amax(1) == maps.flatten(1).amin(1) for maps in (one, other)]
    undefined = torch.where(constant[0] & constant[1], 1.0, 0.0)
    found = torch.where(constant[0] | constant[1], undefined, correlation(one, other))
    return torch.where(_has_nan(one, other), float("nan"), found)


def overlap(one: Mask, other: Mask, fraction: float = 0.2) -> PerImage:
    """Intersection over union of the best pixels of both masks, equally many of each, (B,) in
    [0, 1].

    Unrelated masks have `fraction / (2 - fraction)` on average, 0.11 for a fifth. Ties as in
    `saliencykit.metrics.ranks`. NaN where a mask has NaN.

    Args:
        one: (B, 1, H, W).
        other: (B, 1, H, W), of the same images.
        fraction: Fraction of the pixels, in (0, 1].

    Example:
        >>> mask = torch.arange(10.0).view(1, 1, 2, 5)
        >>> overlap(mask, mask).item()
        1.0
    """
    tops = [best(ranks(maps.nan_to_num()), fraction).flatten(1) for maps in (one, other)]
    both, either = (tops[0] & tops[1]).sum(1), (tops[0] | tops[1]).sum(1)
    return torch.where(_has_nan(one, other), float("nan"), both / either.clamp_min(1))


def _has_nan(one: Mask, other: Mask) -> Tensor:
    return (one + other).flatten(1).isnan().any(1)
