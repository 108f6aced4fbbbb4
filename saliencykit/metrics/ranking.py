"""The order of a map's pixels, with ties broken by a stated rule."""

from collections.abc import MutableMapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from saliencykit.core.rng import image_keys
from saliencykit.core.types import Mask

# the last maps: most metrics rank the same ones
_known: MutableMapping[Tensor, tuple[Tensor, Tensor]] = WeakTensorKeyDictionary()


def ranks(maps: Mask) -> Tensor:
    """Each pixel's place in the order of its map, 0 for the best, (B, 1, H, W) int64.

    Larger values come first. Of equal ones the pixel nearest to the middle of the picture comes
    first, of equally near ones the upper, then the left one: a plateau is taken from the inside
    out, in one piece. Random ties would sprinkle the picture with single pixels, which is itself
    the strongest way to confuse a classifier: a flat map would seem to know what is necessary. That
    objects are often in the middle helps a plateau a little, and helps the `center-box` row of
    every table as much.

    A map that is equal everywhere is the disc in the middle, growing. It is counted, so that a
    masker gains nothing by not answering.

    Args:
        maps: (B, 1, H, W), finite.

    Example:
        >>> ranks(torch.tensor([[[[0.2, 0.9, 0.2, 0.2]]]])).tolist()
        [[[[2, 0, 1, 3]]]]
    """
    keys = image_keys(maps)  # a tensor can be written to
    if maps in _known and torch.equal(_known[maps][0], keys):
        return _known[maps][1]
    height, width = maps.shape[2:]
    middle_first = _middle_first(height, width, maps.device)
    flat = maps.detach().flatten(1) + 0.0  # -0.0 and 0.0 are equal, but not to every sort
    order = middle_first[flat[:, middle_first].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(height * width, device=maps.device).expand_as(order)
    found = torch.empty_like(order).scatter_(1, order, places).view(len(maps), 1, height, width)
    _known.clear()
    _known[maps] = (keys, found)
    return found


@lru_cache(maxsize=4)
def _middle_first(height: int, width: int, device: torch.device) -> Tensor:
    # twice the distance: whole numbers, exact
    y = 2 * torch.arange(height, device=device) - (height - 1)
    x = 2 * torch.arange(width, device=device) - (width - 1)
    return (y[:, None] ** 2 + x**2).flatten().argsort(stable=True)


def best(places: Tensor, share: float) -> Tensor:
    """The pixels whose place is among the best `share` of all, rounded to whole pixels, (B, 1, H,
    W) bool.

    Example:
        >>> best(ranks(torch.tensor([[[[0.1, 0.3, 0.2, 0.0]]]])), 0.5).tolist()
        [[[[False, True, True, False]]]]
    """
    return places < round(share * places.shape[2] * places.shape[3])
