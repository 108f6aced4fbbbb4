"""Geometry: where the model's input lies in the original picture; and the boxes around masks."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor


@final
@dataclass(frozen=True)
class Geometry:
    """Where the model's input lies in the original picture.

    Resizing and cropping are one axis-parallel affine map: the input of `size` pixels shows the
    rectangle `region` of the picture.

    Args:
        picture: Height and width of the original picture in pixels.
        region: x0, y0, x1, y1 of what the input shows, in pixels of the picture; beyond its edges
            where it was padded.
        size: Height and width of the model's input in pixels.

    Example:
        >>> geometry = Geometry(picture=(100, 200), region=(50.0, 0.0, 150.0, 100.0), size=(50, 50))
        >>> geometry.to_picture(torch.ones(1, 1, 50, 50)).shape
        torch.Size([1, 1, 100, 200])
        >>> geometry.box_to_picture(torch.tensor([[0.0, 0.0, 50.0, 50.0]])).tolist()
        [[50.0, 0.0, 150.0, 100.0]]
    """

    picture: tuple[int, int]
    region: tuple[float, float, float, float]
    size: tuple[int, int]

    def to_picture(self, maps: Tensor) -> Tensor:
        """Maps over the input as maps over the picture, bilinear.

        Args:
            maps: (B, C, h, w); h and w may be smaller than `size`.

        Returns:
            (B, C, H, W) with the picture's height and width; 0 where the input does not reach.
        """
        x0, y0, x1, y1 = self.region
        height, width = self.picture
        x = (torch.arange(width, dtype=maps.dtype, device=maps.device) + 0.5 - x0) / (
            x1 - x0
        ) * 2 - 1
        y = (torch.arange(height, dtype=maps.dtype, device=maps.device) + 0.5 - y0) / (
            y1 - y0
        ) * 2 - 1
        inside = ((x.abs() <= 1)[None, :] & (y.abs() <= 1)[:, None]).to(maps.dtype)
        grid = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], -1)
        spread = F.grid_sample(
            maps,
            grid.expand(len(maps), -1, -1, -1),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return spread * inside

    def box_to_picture(self, boxes: Tensor) -> Tensor:
        """Boxes in pixels of the input as boxes in pixels of the picture, clipped to it.

        Args:
            boxes: (n, 4) float: x0, y0, x1, y1.
        """
        x0, y0, x1, y1 = self.region
        height, width = self.size
        scale = boxes.new_tensor([(x1 - x0) / width, (y1 - y0) / height] * 2)
        limit = boxes.new_tensor([self.picture[1], self.picture[0]] * 2)
        return torch.minimum(
            (boxes * scale + boxes.new_tensor([x0, y0, x0, y0])).clamp_min(0), limit
        )

    def box_from_picture(self, boxes: Tensor) -> Tensor:
        """Boxes in pixels of the picture as boxes in pixels of the input, clipped to it.

        Args:
            boxes: (n, 4) float: x0, y0, x1, y1.
        """
        x0, y0, x1, y1 = self.region
        height, width = self.size
        scale = boxes.new_tensor([width / (x1 - x0), height / (y1 - y0)] * 2)
        limit = boxes.new_tensor([width, height] * 2)
        return torch.minimum(
            ((boxes - boxes.new_tensor([x0, y0, x0, y0])) * scale).clamp_min(0), limit
        )


def tight_boxes(inside: Tensor) -> Tensor:
    """The tightest box around the True pixels of each map; the whole map where there are none.

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
    """The boxes from the first to the last True column and row; the whole map where there are none.

    Args:
        columns: (B, W) bool: does the column hold a pixel?
        rows: (B, H) bool.

    Returns:
        (B, 4) int64, as `tight_boxes`.

    Example:
        >>> boxes_of_sides(torch.tensor([[False, True, True]]), torch.tensor([[True, False]])).tolist()
        [[1, 0, 3, 1]]
    """
    # of equal values argmax takes the first
    first = [side.byte().argmax(1) for side in (columns, rows)]
    last = [side.shape[1] - side.flip(1).byte().argmax(1) for side in (columns, rows)]
    whole = torch.tensor([0, 0, columns.shape[1], rows.shape[1]], device=columns.device)
    return torch.where(columns.any(1)[:, None], torch.stack([*first, *last], 1), whole)


def enlarge_boxes(images: Tensor, boxes: Tensor) -> Tensor:
    """What lies in one box per image, rescaled bilinearly to the size of the image, its aspect
    ratio ignored.

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
    crops = []
    for image, (x0, y0, x1, y1) in zip(images, boxes.tolist(), strict=True):
        part = image[None, :, int(y0) : int(y1), int(x0) : int(x1)]
        crops.append(
            F.interpolate(part, size=tuple(image.shape[1:]), mode="bilinear", align_corners=False)
        )
    return torch.cat(crops)
