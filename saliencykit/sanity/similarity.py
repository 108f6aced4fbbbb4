"""How alike are two masks of one picture?"""

import torch

from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.class_confusion import correlation
from saliencykit.metrics.ranking import best, ranks


def similarity(one: Mask, other: Mask) -> PerImage:
    """Pearson's correlation over the pixels, also where it is not defined: 1 if both masks are
    constant, 0 if one of them is.

    A masker that answers with the same flat mask to every question must not escape a check because
    nothing can be divided by its spread. NaN where a mask holds NaN.

    Args:
        one: (B, 1, H, W).
        other: (B, 1, H, W), of the same pictures.

    Example:
        >>> flat, steep = torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0, 1.0]]]])
        >>> similarity(flat, 0.5 * flat).item(), similarity(flat, steep).item(), similarity(steep, 0.5 * steep).item()
        (1.0, 0.0, 1.0)
    """
    constant = [maps.flatten(1).amax(1) == maps.flatten(1).amin(1) for maps in (one, other)]
    missing = torch.stack([maps.flatten(1).isnan().any(1) for maps in (one, other)]).any(0)
    found = torch.where(
        constant[0] & constant[1],
        1.0,
        torch.where(constant[0] | constant[1], 0.0, correlation(one, other)),
    )
    return torch.where(missing, float("nan"), found)


def overlap(one: Mask, other: Mask, share: float = 0.2) -> PerImage:
    """Intersection over union of the best pixels of both masks, as many of each, so at equal area,
    in [0, 1].

    What masks without any relation have is `share / (2 - share)` on average, 0.11 for a fifth. Ties
    as in `metrics.ranking.ranks`. NaN where a mask holds NaN.

    Args:
        one: (B, 1, H, W).
        other: (B, 1, H, W), of the same pictures.
        share: Of the pixels, in (0, 1].

    Example:
        >>> overlap(torch.arange(10.0).view(1, 1, 2, 5), torch.arange(10.0).view(1, 1, 2, 5)).item()
        1.0
    """
    missing = torch.stack([maps.flatten(1).isnan().any(1) for maps in (one, other)]).any(0)
    tops = [best(ranks(maps.nan_to_num()), share).flatten(1) for maps in (one, other)]
    both, either = (tops[0] & tops[1]).sum(1), (tops[0] | tops[1]).sum(1)
    return torch.where(missing, float("nan"), both / either.clamp_min(1))
