"""Nested masks: from the order of a map's pixels to a mask of each area, smaller ones inside larger
ones.

`M_a = sigmoid((s - q_a) / w)`, with `q_a` the threshold at which the mean of `M_a` is `a`: for
narrow edges `w` it is the `1 - a` quantile of the scores `s`. The larger the area, the lower `q_a`,
so that a < b implies M_a <= M_b everywhere, whatever the scores are.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from saliencykit.core.checks import numbers
from saliencykit.core.types import Mask

_THRESHOLD_SIDE = 56  # pixels per side on which the threshold is solved; the scores are smooth
_EDGE_WIDTH = 0.1  # of a budget's mask: at an area of 10 %, 4 % of the pixels are between .1 and .9


def nested_masks(scores: Tensor, areas: Sequence[float] | Tensor, *, edge_width: float) -> Mask:
    """A mask of each area, differentiable in the scores.

    The derivative is that of the implicit function: what raises one pixel lowers the others, and
    raising all of them changes nothing. A constant map gives the area at every pixel.

    Args:
        scores: (B, 1, h, w), any numbers.
        areas: n means of the masks, in (0, 1); or (B, n) of them, others for each image.
        edge_width: w, of the mask's edge, in units of the scores, > 0.

    Returns:
        (B, n, h, w) in [0, 1].

    Example:
        >>> masks = nested_masks(torch.arange(4.0).view(1, 1, 1, 4), (0.25, 0.5), edge_width=0.01)
        >>> masks.squeeze().round().tolist()
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]]

    References:
        Fong et al. 2019, "Understanding deep networks via extremal perturbations": masks of given
        areas.
    """
    fixed = scores.detach()
    wanted = torch.as_tensor(areas, dtype=fixed.dtype, device=fixed.device).expand(len(fixed), -1)
    threshold = _thresholds(fixed, wanted, edge_width)[:, :, None, None]
    if scores.requires_grad:
        slope = torch.sigmoid((fixed - threshold) / edge_width)
        slope = slope * (1 - slope)
        total = slope.sum((2, 3), keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        # adds nothing to the threshold, only its derivative
        implicit = (scores * (slope / total)).sum((2, 3), keepdim=True)
        threshold = threshold + (implicit - implicit.detach())
    return torch.sigmoid((scores - threshold) / edge_width)


def pixel_order(mask: Mask, attributions: Tensor | None = None) -> Tensor:
    """The order of a map's pixels: the number of pixels that come before each, from the least
    important on; the same one for equal pixels.

    Args:
        mask: (B, 1, h, w).
        attributions: They decide between pixels where the mask is equal, as where a mask is 0 or
            1. None: nothing does.

    Returns:
        (B, 1, h, w), whole numbers from 0.

    Example:
        >>> mask, attributions = torch.tensor([[0.0, 0, 0, 1]]), torch.tensor([[-1.0, -2, -1, 0]])
        >>> pixel_order(mask.view(1, 1, 1, 4), attributions.view(1, 1, 1, 4)).flatten().tolist()
        [1.0, 0.0, 1.0, 3.0]
    """
    values = mask.detach().flatten(1)
    first = _Ties(values).before()
    if attributions is not None:
        second = _Ties(attributions.detach().flatten(1)).before()
        first = _Ties(first * values.shape[1] + second).before()
    return first.view(mask.shape).to(torch.float32)


def budget_masks(order: Tensor, areas: Sequence[float]) -> Mask:
    """A mask of each area from the order of the pixels, whatever their values are: a mask itself,
    or the `pixel_order` of a mask and attributions.

    The scores of `nested_masks` are the log-odds of each pixel's place in the order. Pixels that
    are equal share what their places would get, so that the area is exact, and a constant map,
    which orders nothing, gives the area at every pixel.

    Args:
        order: (B, 1, h, w), larger for pixels that come later.
        areas: n means of the masks, in (0, 1).

    Returns:
        (B, n, h, w) float32 in [0, 1].

    Raises:
        InputError: An area is outside (0, 1).

    Example:
        >>> order = torch.tensor([[[[0.0, 0.0, 2.0, 3.0]]]])
        >>> budget_masks(order, (0.5, 0.75)).round(decimals=1).squeeze().tolist()
        [[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0]]
    """
    for area in areas:
        numbers("budget_masks", "(0, 1)", area=area)
    ties = _Ties(order.detach().flatten(1))
    sums = _sums(order[0].numel(), tuple(map(float, areas))).to(order.device)
    count = (ties.last - ties.first).to(sums.dtype)
    shared = [(row[ties.last] - row[ties.first]) / count for row in sums]
    masks = [torch.empty_like(each).scatter_(1, ties.order, each) for each in shared]
    return torch.stack(masks, 1).view(len(order), -1, *order.shape[2:]).float().clamp(0, 1)


class _Ties:
    """The pixels (B, N) in ascending order, and for each place the first place of the equal ones
    and the one after their last.
    """

    def __init__(self, values: Tensor) -> None:
        ranked, self.order = (values + 0).sort(dim=1)
        places = torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
        new = torch.ones_like(ranked, dtype=torch.bool)
        new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
        self.first = torch.where(new, places, 0).cummax(1).values
        ends = torch.where(new.roll(-1, 1), places + 1, ranked.shape[1])
        self.last = ends.flip(1).cummin(1).values.flip(1)

    def before(self) -> Tensor:
        """The first place of the equal ones, for each pixel, (B, N) int64."""
        return torch.empty_like(self.first).scatter_(1, self.order, self.first)


@lru_cache(maxsize=16)
def _sums(count: int, areas: tuple[float, ...]) -> Tensor:
    """The sum of the masks of all areas over the first k places of the order, (n, count + 1)."""
    places = (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) / count
    masks = nested_masks(places.logit().view(1, 1, 1, -1), areas, edge_width=_EDGE_WIDTH)
    return torch.nn.functional.pad(masks[0, :, 0].cumsum(1), (1, 0))


def _thresholds(scores: Tensor, areas: Tensor, edge_width: float) -> Tensor:
    """The t for which the mean of `sigmoid((scores - t) / edge_width)` is each area, (B, n)."""
    every = max(1, min(scores.shape[2:]) // _THRESHOLD_SIDE)
    rows = scores[:, :, every // 2 :: every, every // 2 :: every].flatten(2)  # (B, 1, pixels)
    rows = rows / edge_width
    low, high = rows.amin(2) - 20, rows.amax(2) + 20
    middle, step = ((low + high) / 2).expand_as(areas).clone(), (high - low) / 4
    for _ in range(24 if rows.dtype == torch.float32 else 30):  # bisections: to the last digits
        mean = (rows - middle[:, :, None]).sigmoid_().mean(2)
        middle += step.copysign(mean - areas)
        step = step / 2
    return middle * edge_width
