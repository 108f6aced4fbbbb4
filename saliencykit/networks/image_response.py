"""How the layers of a classifier respond to changes in the quarters of an image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.feature_map import FeatureMap, Side
from saliencykit.networks.layer_activations import read_outputs
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.structure_cache import StructureCache, versions_of

QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Upper left, upper right, lower left, lower right."""

_UNDECIDED = 0.5  # above the mean: changes less concentrated than this are spread by mixing
# of the concentration; 0.9 and more where positions are in order, at most 0.5 where they are so
# along one side only, as Hiera's are, 0.05 where they are along none
_IN_QUARTER = 0.6
_OWN_STRIPE = 1.2  # change where the image changed, by that beside; 1 where tokens are windows
# of the distance of two positions: noise of the measurement is below a half of it
_MIN_OFFSET = 1 / 16

_offsets: StructureCache[tuple[list[Any], tuple[float, float]]] = StructureCache()
"""Versions of the weights, and the offset of a layer with them."""


def noise_like(images: Images) -> Images:
    """One image of uniform noise, (1, C, H, W), always the same, that models are probed with."""
    empty = images.new_zeros(1, *images.shape[1:])
    return rng.uniform(empty, images.shape[1:], generator=Generator().manual_seed(0))


def quarter_responses(
    black_box: BlackBox, probe: Images, names: Sequence[str]
) -> dict[str, list[Tensor]]:
    """What changes in the outputs of layers where a quarter of an image is changed.

    Each quarter is inverted and brightened in turn, in the probe and in its mirror image (point
    reflection): what a network does at the left side of the one it does at the right side of the
    other, so that chance cancels.

    Args:
        black_box: With a torch module inside.
        probe: One image, (1, C, H, W).
        names: Of layers that return tensors.

    Returns:
        For each layer that returned one row per image, and for each of its calls, the absolute
        changes, (2, 4, *output.shape[1:]): of the probe and of its mirror image, by the quarter
        that was changed, in the order of `QUARTERS`.
    """
    edited = probe.repeat(5, 1, 1, 1)
    for image, (y, x) in zip(edited[1:], QUARTERS, strict=True):
        quarter = image[:, _half(y, probe.shape[2]), _half(x, probe.shape[3])]
        quarter.copy_(1 - quarter / 2)
    both = torch.cat([edited, edited.flip(2, 3)])
    outputs = read_outputs(black_box, both, names)
    changes = {}
    for name, calls in outputs.items():
        ways = [each.reshape(2, 5, *each.shape[1:]) for each in calls if len(each) == len(both)]
        change = [(way[:, 1:] - way[:, :1]).abs() for way in ways]
        changes[name] = [torch.stack([own, reflected.flip(0)]) for own, reflected in change]
    return changes


def keeps_token_order(black_box: BlackBox, feature_map: FeatureMap, probe: Images) -> bool:
    """Are a transformer's tokens in the order of the image? Some architectures reorder them.

    Args:
        black_box: With a torch module inside.
        feature_map: The layer.
        probe: One image, (1, C, H, W).
    """
    changes = quarter_responses(black_box, probe, [feature_map.name])[feature_map.name]
    maps = feature_map.read(changes[feature_map.call].mean(0), probe.shape[2:]).sum(1)
    return is_in_order(maps, probe.shape[2:])


def sees_single_cells(black_box: BlackBox, feature_map: FeatureMap, probe: Images) -> bool:
    """Does each position see its own cell of the grid, and its neighbors less?

    Every second row, then every second column of cells is changed. Tokens that are grouped by
    window can pass for a grid of another aspect ratio (14 x 14 in windows of 2 x 2 for 7 x 28)
    whose quarters are right; each then sees as much of the rows or columns that changed as of the
    others.

    Args:
        black_box: With a torch module inside.
        feature_map: The layer and its supposed grid.
        probe: One image, (1, C, H, W).
    """
    size = (probe.shape[2], probe.shape[3])
    axes = [axis for axis in (0, 1) if feature_map.side[axis] > 1]
    edited = probe.repeat(1 + len(axes), 1, 1, 1)
    for image, axis in zip(edited[1:], axes, strict=True):
        count = feature_map.side[axis]
        cells = torch.arange(size[axis], device=probe.device) * count // size[axis]
        odd = (cells % 2 == 1).view((-1, 1) if axis == 0 else (1, -1))
        image.copy_(torch.where(odd, 1 - image / 2, image))
    output = read_outputs(black_box, edited, [feature_map.name])[feature_map.name]
    maps = feature_map.read(output[feature_map.call].float(), size)
    for change, axis in zip((maps[1:] - maps[:1]).abs().sum(1), axes, strict=True):
        line = change.mean(1 - axis)
        if bool(line[1::2].mean() < _OWN_STRIPE * line[::2].mean()):
            return False
    return True


def is_in_order(maps: Tensor, image_size: Sequence[int], *, surely: bool = False) -> bool:
    """Where a quarter of the image changes, does the same quarter of the feature map change?

    *Concentration* is the change at the quarter of the positions that change most, divided by the
    mean change (at most 4); *in the quarter* is the change in the right quarter, divided by the
    mean. Out of order is a map whose changes are concentrated, but not in the quarter.

    Args:
        maps: Changes by quarter, (4, h, w).
        image_size: Height and width of the image.
        surely: The answer where everything changes equally (an untrained mixer) and nothing can be
            said: yes, or if this is True no.
    """
    h, w = maps.shape[1:]
    maps = maps / maps.mean((1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    concentration = maps.flatten(1).topk(max(1, h * w // 4)).values.mean() - 1
    excess = (maps * shares((h, w), image_size).to(maps)).sum((1, 2))
    excess = (excess / shares((h, w), image_size).to(maps).sum((1, 2))).mean() - 1
    if bool(concentration < _UNDECIDED):
        return not surely
    return bool(excess > _IN_QUARTER * concentration)


def shares(side: Side, image_size: Sequence[int]) -> Tensor:
    """The fraction of each position of a grid that lies in each quarter of the image, (4, h, w)."""
    halves = []
    for count, pixels in zip(side, image_size, strict=True):
        if pixels == 1:  # both halves are the whole
            halves.append(torch.ones(2, count, dtype=torch.float32, device="cpu"))
        else:
            first = (count / 2 - torch.arange(count, device="cpu")).clamp(0, 1)
            halves.append(torch.stack([first, 1 - first]))
    return torch.stack([halves[0][y, :, None] * halves[1][x] for y, x in QUARTERS])


def placed(black_box: BlackBox, feature_map: FeatureMap, images: Images) -> FeatureMap:
    """The feature map with its `grid_offset`, measured once until a weight changes.

    Args:
        black_box: With a torch module inside.
        feature_map: The layer.
        images: (B, C, H, W), as the black box takes them; only shape, dtype and device count.
    """
    model = black_box.source_module or module_of(black_box)
    versions, known = versions_of(model), _offsets.of(model)
    key = (feature_map, *images.shape[1:])
    if key not in known or known[key][0] != versions:
        known[key] = (versions, grid_offset(black_box, feature_map, noise_like(images)))
    return replace(feature_map, offset=known[key][1])


def grid_offset(black_box: BlackBox, feature_map: FeatureMap, probe: Images) -> tuple[float, float]:
    """How far below and to the right of an even grid the feature map sees the image, in pixels.

    Strided layers that pad one side more than the other see more of that side at each step: in
    networks from TensorFlow the positions see what lies below and to the right of them, in those
    with `padding=1` what lies above and to the left. Where the parts of the image change in turn,
    the changes in the map then have another center of mass than the parts, in an image and its
    mirror image alike.

    Args:
        black_box: With a torch module inside.
        feature_map: The layer.
        probe: One image, (1, C, H, W).

    Returns:
        Down and right; 0 where it is less than a pixel, or than a sixteenth of the distance of two
        positions.

    References:
        Luo et al. 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural
        Networks", section 2.
    """
    calls = quarter_responses(black_box, probe, [feature_map.name]).get(feature_map.name, [])
    if not calls:
        return 0.0, 0.0
    changes = calls[feature_map.call].flatten(0, 1)
    energy = feature_map.read(changes, probe.shape[2:]).square().sum(1)
    total = energy.sum((1, 2))
    if not bool((total > 0).all()):
        return 0.0, 0.0
    offsets = []
    for axis, count in enumerate(feature_map.side):
        position = torch.arange(count, device=energy.device) + 0.5
        centers = ((energy.sum(2 - axis) * position).sum(1) / total).view(2, 4).mean(1)
        step = probe.shape[2 + axis] / count
        one, other = ((count / 2 - centers) * step).tolist()
        # of two measurements the smaller one; where they contradict each other, none
        off = min(one, other, key=abs) if one * other > 0 else 0.0
        offsets.append(round(off, 2) if abs(off) >= max(1, _MIN_OFFSET * step) else 0.0)
    return offsets[0], offsets[1]


def _half(which: int, side: int) -> slice:
    if side == 1:
        return slice(None)
    return slice(side - side // 2, None) if which else slice(side // 2)
