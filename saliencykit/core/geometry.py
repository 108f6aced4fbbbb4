"""Geometry: where the model's input lies in the source image; and bounding boxes of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.errors import InputError


@final
@dataclass(frozen=True)
class Geometry:
    """Where the model's input lies in the source image.

    Resizing and cropping are one axis-parallel affine map: the input of `size` pixels shows the
    rectangle `region` of the source image.

    Args:
        source_size: Height and width of the source image in pixels.
        region: x0, y0, x1, y1 of what the input shows, in pixels of the source image; beyond its
            edges where it was padded.
        size: Height and width of the model's input in pixels.

    Raises:
        InputError: A size is below 1, or the region is empty.

    Example:
        >>> geometry = Geometry((100, 200), region=(50.0, 0.0, 150.0, 100.0), size=(50, 50))
        >>> geometry.to_source(torch.ones(1, 1, 50, 50)).shape
        torch.Size([1, 1, 100, 200])
        >>> geometry.bbox_to_source(torch.tensor([[0.0, 0.0, 50.0, 50.0]])).tolist()
        [[50.0, 0.0, 150.0, 100.0]]
    """

    source_size: tuple[int, int]
    region: tuple[float, float, float, float]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        """Check that sizes and region are not empty."""
        x0, y0, x1, y1 = self.region
        if min(*self.source_size, *self.size) < 1 or not (x0 < x1 < inf and y0 < y1 < inf):
            raise InputError(
                f"a Geometry has sizes >= 1 and a region x0 < x1, y0 < y1; got {self}."
            )

    def to_source(self, maps: Tensor) -> Tensor:
        """Resample maps of the input to the source image, bilinearly.

        Args:
            maps: (B, C, h, w); h and w may be smaller than `size`.

        Returns:
            (B, C, H, W) with the source image's height and width; 0 outside of `region`.
        """
        x0, y0, x1, y1 = self.region
        height, width = self.source_size
        columns = torch.arange(width, dtype=maps.dtype, device=maps.device) + 0.5
        rows = torch.arange(height, dtype=maps.dtype, device=maps.device) + 0.5
        # grid_sample's coordinates: -1 and 1 are the edges of the input
        x, y = (columns - x0) / (x1 - x0) * 2 - 1, (rows - y0) / (y1 - y0) * 2 - 1
        inside = ((x.abs() <= 1)[None, :] & (y.abs() <= 1)[:, None]).to(maps.dtype)
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(len(maps), -1, -1, -1)
        return inside * F.grid_sample(maps, grid, padding_mode="border", align_corners=False)

    def bbox_to_source(self, boxes: Tensor) -> Tensor:
        """Bounding boxes from pixels of the input to pixels of the source image, clipped to it.

        Args:
            boxes: (n, 4) float: x0, y0, x1, y1.
        """
        (x0, y0, x1, y1), (height, width) = self.region, self.size
        scale = boxes.new_tensor([(x1 - x0) / width, (y1 - y0) / height] * 2)
        limit = boxes.new_tensor(self.source_size[::-1] * 2)
        return torch.minimum((boxes * scale + boxes.new_tensor([x0, y0] * 2)).clamp_min(0), limit)

    def bbox_from_source(self, boxes: Tensor) -> Tensor:
        """Bounding boxes from pixels of the source image to pixels of the input, clipped to it.

        Args:
            boxes: (n, 4) float: x0, y0, x1, y1.
        """
        (x0, y0, x1, y1), (height, width) = self.region, self.size
        scale = boxes.new_tensor([width / (x1 - x0), height / (y1 - y0)] * 2)
        limit = boxes.new_tensor([width, height] * 2)
        return torch.minimum(((boxes - boxes.new_tensor([x0, y0] * 2)) * scale).clamp_min(0), limit)


def tight_boxes(inside: Tensor) -> Tensor:
    """The tightest bounding box around the True pixels of each map; the whole map if there are
    none.

    Args:
        inside: (B, 1, H, W) bool.

    Returns:
        (B, 4) int64: x0, y0, x1, y1 in pixels, x1 and y1 exclusive.

    Example:
        >>> tight_boxes(torch.tensor([[[[False, True, True], [False, False, True]]]])).tolist()
        [[1, 0, 3, 2]]
    """
    return boxes_of_sides(inside[:, 0].any(1), inside[:, 0].any(2))


def boxes_of_sides(columns: Tensor, rows: Tensor) -> Tensor:
    """Bounding boxes from the first to the last True column and row; the whole map if there are
    none.

    Args:
        columns: (B, W) bool: does the column hold a pixel?
        rows: (B, H) bool.

    Returns:
        (B, 4) int64, as `tight_boxes`.

    Example:
        >>> columns, rows = torch.tensor([[False, True, True]]), torch.tensor([[True, False]])
        >>> boxes_of_sides(columns, rows).tolist()
        [[1, 0, 3, 1]]
    """
    # of equal values argmax takes the first
    first = [side.byte().argmax(1) for side in (columns, rows)]
    last = [side.shape[1] - side.flip(1).byte().argmax(1) for side in (columns, rows)]
    whole = torch.tensor([0, 0, columns.shape[1], rows.shape[1]], device=columns.device)
    return torch.where(columns.any(1)[:, None], torch.stack([*first, *last], 1), whole)


def inside_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Which pixels are in one bounding box per image, (B, 1, H, W) bool.

    Args:
        boxes: (B, 4) as of `tight_boxes`.
        size: H and W.

    Example:
        >>> inside_boxes(torch.tensor([[1, 0, 3, 1]]), (1, 4)).tolist()
        [[[[False, True, True, False]]]]
    """
    y, x = (torch.arange(side, device=boxes.device) for side in size)
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    return (((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None, :])[:, None]


def boxes_in_source(inside: Tensor, geometries: Sequence[Geometry | None]) -> Tensor:
    """The tightest bounding box around the True pixels of each map, in its source image.

    Args:
        inside: (B, 1, H, W) bool, in the model's input; a map without one gives the whole input.
        geometries: Where each input lies in its source image; None, or nothing at all, where there
            is no such image.

    Returns:
        (B, 4) float: x0, y0, x1, y1, x1 and y1 exclusive.
    """
    boxes = tight_boxes(inside).float()
    for row, geometry in enumerate(geometries):
        if geometry is not None:
            boxes[row] = geometry.bbox_to_source(boxes[row : row + 1])[0]
    return boxes


def enlarge_boxes(images: Tensor, boxes: Tensor) -> Tensor:
    """The content of one bounding box per image, resized bilinearly to the size of the image,
    whatever its aspect ratio.

    Args:
        images: (B, C, H, W).
        boxes: (B, 4) as of `tight_boxes`.

    Returns:
        (B, C, H, W).

    Example:
        >>> images = torch.arange(4.0).view(1, 1, 2, 2)
        >>> enlarge_boxes(images, torch.tensor([[1, 0, 2, 1]])).unique().tolist()
        [1.0]
    """
    size = tuple(images.shape[2:])
    crops = [
        image[None, :, int(y0) : int(y1), int(x0) : int(x1)]
        for image, (x0, y0, x1, y1) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(
        [F.interpolate(crop, size=size, mode="bilinear", align_corners=False) for crop in crops]
    )
