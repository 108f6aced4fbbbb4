"""The order of a map's pixels, with a fixed rule for ties."""

from collections.abc import MutableMapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from saliencykit.core.rng import image_keys
from saliencykit.core.types import Mask

# of the last maps, because most metrics rank the same ones
_known: MutableMapping[Tensor, tuple[Tensor, Tensor]] = WeakTensorKeyDictionary()


def ranks(maps: Mask) -> Tensor:
    """Each pixel's rank in its map, 0 for the best, (B, 1, H, W) int64.

    Larger values come first. Among equal ones the pixel nearest to the center comes first, then the
    upper, then the left one: a plateau is taken from the inside out, in one piece. Random ties
    would scatter single pixels over the image, which is itself the strongest way to confuse a
    classifier: a constant map would seem to know what is necessary. That objects are often in the
    center helps a plateau a little, and helps the `center-box` row of every table as much.

    A constant map is a growing disc in the center. It is scored like any other, so that a masker
    gains nothing by returning one.

    Args:
        maps: (B, 1, H, W), finite.

    Example:
        >>> ranks(torch.tensor([[[[0.2, 0.9, 0.2, 0.2]]]])).tolist()
        [[[[2, 0, 1, 3]]]]
    """
    keys = image_keys(maps)  # a tensor can be modified in place
    if maps in _known and torch.equal(_known[maps][0], keys):
        return _known[maps][1]
    height, width = maps.shape[2:]
    center_first = _center_first(height, width, maps.device)
    flat = maps.detach().flatten(1) + 0.0  # -0.0 and 0.0 are equal, but not to every sort
    order = center_first[flat[:, center_first].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(height * width, device=maps.device).expand_as(order)
    found = torch.empty_like(order).scatter_(1, order, places).view(len(maps), 1, height, width)
    _known.clear()
    _known[maps] = (keys, found)
    return found


@lru_cache(maxsize=4)
def _center_first(height: int, width: int, device: torch.device) -> Tensor:
    # twice the distance, so that all numbers are exact integers
    y = 2 * torch.arange(height, device=device) - (height - 1)
    x = 2 * torch.arange(width, device=device) - (width - 1)
    return (y[:, None] ** 2 + x**2).flatten().argsort(stable=True)


def best(places: Tensor, fraction: float) -> Tensor:
    """The best `fraction` of the pixels, rounded to whole pixels, (B, 1, H, W) bool.

    Example:
        >>> best(ranks(torch.tensor([[[[0.1, 0.3, 0.2, 0.0]]]])), 0.5).tolist()
        [[[[False, True, True, False]]]]
    """
    return places < round(fraction * places.shape[2] * places.shape[3])
