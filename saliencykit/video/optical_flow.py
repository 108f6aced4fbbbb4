"""Optical flow: where each point of a frame was in the frame before, for a batch of small gray
images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Images, Mask

# pixels of the short side: one is 3.5 pixels of 224, and motion is exact to about 0.05 of it
SIDE = 64
# radius of the window at each level, coarse to fine; None: one shift for the whole image
_RADII = (None, 4, 5)
_STEPS = (4, 2, 2)
# towards the image's mean motion, as a fraction of its mean gradient energy: flat regions move
# along
_PULL = 0.02


def small_gray(images: Images) -> Tensor:
    """Images (B, C, H, W) downsampled for optical flow: (B, 1, h, w), short side at most 64."""
    height, width = images.shape[2:]
    scale = min(1.0, SIDE / min(height, width))
    gray = images.float().mean(1, keepdim=True)
    return F.interpolate(
        gray, size=(max(1, round(height * scale)), max(1, round(width * scale))), mode="area"
    )


def flow_back(before: Tensor, now: Tensor) -> Tensor:
    """Lucas-Kanade optical flow, coarse to fine: one shift for the whole image, then windows.

    Good at pans, zooms and objects that move by up to a tenth of the image (a fifth in images with
    large shapes). Poor where one object uncovers another and where appearance changes.

    Args:
        before: (B, 1, h, w), from `small_gray`, any range.
        now: (B, 1, h, w), the frames after them.

    Returns:
        (B, 2, h, w), x and y in pixels: the point p of `now` was at p + flow in `before`.

    Example:
        >>> x = torch.arange(48.0)
        >>> wave = lambda shift: torch.sin((x[None, :] + shift) / 5) * torch.cos(x[:, None] / 6)
        >>> flow = flow_back(wave(0.0)[None, None], wave(1.5)[None, None])
        >>> [round(abs(v), 1) for v in flow.mean((0, 2, 3)).tolist()]
        [1.5, 0.0]

    References:
        Lucas & Kanade 1981, "An iterative image registration technique"; Le Besnerais & Champagnat
        2005 for the dense form.
    """
    levels = len(_RADII)
    flow = before.new_zeros(len(before), 2, 1, 1)
    for level, (radius, steps) in enumerate(zip(_RADII, _STEPS, strict=True)):
        shrink = 2 ** (levels - 1 - level)
        size = tuple(max(1, side // shrink) for side in before.shape[2:])
        a, b = (F.interpolate(frame, size=size, mode="area") for frame in (before, now))
        ratio = before.new_tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]]).view(
            1, 2, 1, 1
        )
        # at the coarsest level the flow is a single value, already in pixels of that level
        flow = (
            flow.expand(-1, -1, *size)
            if level == 0
            else F.interpolate(flow * ratio, size=size, mode="bilinear")
        )
        for _ in range(steps):
            flow = _step(a, b, flow, radius)
    return flow


def moved(maps: Tensor, flow: Tensor) -> Tensor:
    """Warp maps (B, C, H, W) of the frames before to where their content is now.

    Args:
        maps: Of any size; at the edges the nearest value is used.
        flow: (B, 2, h, w), from `flow_back`.
    """
    height, width = maps.shape[2:]
    scale = flow.new_tensor([2 / flow.shape[3], 2 / flow.shape[2]]).view(1, 2, 1, 1)
    shift = F.interpolate(flow * scale, size=(height, width), mode="bilinear")
    grid = _grid(height, width, maps) + shift.permute(0, 2, 3, 1)
    return F.grid_sample(
        maps, grid.to(maps.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )


def known(before: Tensor, now: Tensor, flow: Tensor) -> Mask:
    """How visible each point of `now` was in the frame before: 1 where both agree after motion
    compensation, 0 where something new came into view.

    The difference is averaged over 5x5 pixels and compared with the contrast of `now` (its standard
    deviation): below 0.2 of it 1, above 0.6 of it 0. Points from outside the frame are 0.

    Returns:
        (B, 1, h, w) in [0, 1].
    """
    height, width = now.shape[2:]
    difference = _window_mean((now - moved(before, flow)).abs(), 2)
    contrast = now.std((1, 2, 3), correction=0, keepdim=True).clamp_min(1e-3)
    agree = ((0.6 - difference / contrast) / 0.4).clamp(0, 1)
    scale = flow.new_tensor([2 / width, 2 / height]).view(1, 2, 1, 1)
    place = _grid(height, width, now) + (flow * scale).permute(0, 2, 3, 1)
    inside = (place.abs() <= 1 + 1 / min(height, width)).all(3)
    return agree * inside[:, None]


def _grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel positions as grid_sample takes them: (1, H, W, 2), x and y in [-1, 1]."""
    x = (torch.arange(width, dtype=torch.float32, device=like.device) * 2 + 1) / width - 1
    y = (torch.arange(height, dtype=torch.float32, device=like.device) * 2 + 1) / height - 1
    return torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], -1)[
        None
    ]


def _window_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean over (2 radius + 1)^2 pixels, without padding; rows first, then columns."""
    rows = F.avg_pool2d(maps, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False)
    return F.avg_pool2d(rows, (2 * radius + 1, 1), 1, (radius, 0), count_include_pad=False)


def _step(before: Tensor, now: Tensor, flow: Tensor, radius: int | None) -> Tensor:
    """One least-squares step, with the frame before warped by the current flow."""
    there = moved(before, flow)
    mean = F.pad((there + now) / 2, (1, 1, 1, 1), mode="replicate")
    gx = (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2]) / 2
    gy = (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1]) / 2
    target = now - there + gx * flow[:, :1] + gy * flow[:, 1:]
    sums = torch.cat([gx * gx, gx * gy, gy * gy, gx * target, gy * target], 1)
    sums = sums.mean((2, 3), keepdim=True) if radius is None else _window_mean(sums, radius)
    xx, xy, yy, xt, yt = (sums[:, i : i + 1] for i in range(5))
    pull = _PULL * (xx + yy).mean((2, 3), keepdim=True) + 1e-8
    center = flow.mean((2, 3), keepdim=True)
    xx, yy, xt, yt = xx + pull, yy + pull, xt + pull * center[:, :1], yt + pull * center[:, 1:]
    determinant = xx * yy - xy * xy
    solved = torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], 1) / determinant
    limit = max(now.shape[2:]) / 2
    solved = solved.clamp(-limit, limit)
    return solved.expand_as(flow)
