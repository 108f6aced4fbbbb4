"""Placement of maps on an image: resizing, and moving what lies off the grid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps bilinearly, as an even grid on the image; unchanged if they have its size.

    Args:
        maps: (B, n, h, w).
        size: Height and width in pixels.

    Returns:
        (B, n, *size).
    """
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def place_maps(maps: Tensor, size: Sequence[int], offset: tuple[float, float]) -> Tensor:
    """Resize maps bilinearly, as a grid on the image that lies lower and to the right.

    Args:
        maps: (B, n, h, w).
        size: Height and width of the image in pixels.
        offset: How far below and to the right of an even grid the positions are, in pixels. (0, 0)
            is `resize_maps`.

    Returns:
        (B, n, *size).

    Example:
        >>> place_maps(torch.tensor([[[[0.0, 1.0]]]]), (1, 4), (0.0, 1.0)).flatten().tolist()
        [0.0, 0.0, 0.25, 0.75]
    """
    if not any(offset):
        return resize_maps(maps, size)
    for axis, (pixels, off) in enumerate(zip(size, offset, strict=True), start=2):
        count = maps.shape[axis]
        pixel = torch.arange(pixels, dtype=maps.dtype, device=maps.device) + 0.5
        position = ((pixel - off) * (count / pixels) - 0.5).clamp(0, count - 1)
        before = position.floor().long()
        after, weight = (before + 1).clamp_max(count - 1), position - before
        weight = weight.view(-1, 1) if axis == 2 else weight
        low, high = maps.index_select(axis, before), maps.index_select(axis, after)
        maps = low + (high - low) * weight
    return maps
