"""Do a transformer's tokens lie in the order of the image? Some architectures reorder them."""

import torch
from torch import Generator

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import read_feature_maps

_UNDECIDED = 0.5  # above the mean: changes less concentrated than this are spread by mixing
# of the concentration; 0.9 and more where tokens are in order, 0.05 in the early layers of Hiera,
# where they are not
_IN_CORNER = 0.25


def noise_like(images: Images) -> Images:
    """One image of uniform noise, (1, C, H, W), always the same, that models are probed with."""
    empty = images.new_zeros(1, *images.shape[1:])
    return rng.uniform(empty, images.shape[1:], generator=Generator().manual_seed(0))


def keeps_token_order(black_box: BlackBox, feature_map: FeatureMap, probe: Images) -> bool:
    """Where a corner of the image changes, does the same corner of the feature map change?

    Each quarter of the image is inverted in turn. *Concentration* is the change at the quarter of
    the positions that change most, divided by the mean change (at most 4); *in the corner* is the
    change in the right corner, divided by the mean. Out of order is a map whose changes are
    concentrated, but not in the corner. Where everything changes equally (an untrained mixer)
    nothing can be said, and the answer is yes.
    """
    (height, width), (h, w) = probe.shape[2:], feature_map.side
    edited = probe.repeat(5, 1, 1, 1)
    corners = [(y, x) for y in (0, 1) for x in (0, 1)]
    for image, (y, x) in zip(edited[1:], corners, strict=True):
        corner = image[:, _half(y, height), _half(x, width)]
        corner.copy_(1 - corner)
    with torch.no_grad():
        _, (maps,) = read_feature_maps(black_box, edited, [feature_map])
    change = (maps[1:] - maps[:1]).abs().sum(1)
    change = change / change.mean((1, 2), keepdim=True).clamp_min(torch.finfo(change.dtype).tiny)
    concentration = change.flatten(1).topk(max(1, h * w // 4)).values.mean() - 1
    in_corner = [c[_half(y, h), _half(x, w)] for c, (y, x) in zip(change, corners, strict=True)]
    excess = torch.stack([each.mean() for each in in_corner]).mean() - 1
    return bool((concentration < _UNDECIDED) | (excess > _IN_CORNER * concentration))


def _half(which: int, side: int) -> slice:
    return slice(side - side // 2, None) if which else slice(side // 2)
