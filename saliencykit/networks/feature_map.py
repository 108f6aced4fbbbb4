"""FeatureMap: a layer of a classifier whose output is a spatial map of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from saliencykit.core.errors import InputError

Layout: TypeAlias = Literal["maps", "last", "tokens"]
Side: TypeAlias = tuple[int, int]


@final
@dataclass(frozen=True)
class FeatureMap:
    """A layer of a classifier whose output is a spatial map of the image.

    Attributes:
        name: Dotted, as in `named_modules()`.
        layout: `maps`: (B, C, h, w); `last`: (B, h, w, C); `tokens`: (B, N, C).
        channels: C.
        side: h and w for the image size it was recorded with.
        prefix: With `tokens`: the number of tokens before those of the grid.
        suffix: With `tokens`: the number of tokens after those of the grid.
        call: Which of the layer's calls in one forward pass it is, from 0.
        calls: How many calls of the layer there are in one forward pass.
        image_size: Height and width of the images it was recorded with; None: not known.
        offset: How far below and to the right of an even grid on the image the positions are, in
            pixels of these images.
    """

    name: str
    layout: Layout
    channels: int
    side: Side
    prefix: int = 0
    suffix: int = 0
    call: int = 0
    calls: int = 1
    image_size: Side | None = None
    offset: tuple[float, float] = (0.0, 0.0)

    def read(self, output: Tensor, image_size: Sequence[int]) -> Tensor:
        """The layer's output as (B, C, h, w), float32 unless it is float64.

        Args:
            output: What the layer returned.
            image_size: Height and width of the images, in pixels.

        Raises:
            InputError: The output is not a map of images of this size.
        """
        if self.layout == "tokens":
            tokens = output[:, self.prefix : output.shape[1] - self.suffix]
            grid = token_grid(tokens.shape[1], image_size)
            if tuple(image_size) == self.image_size and tokens.shape[1] == prod(self.side):
                grid = self.side
            if grid is None:
                raise InputError(
                    f"{self.name!r} returned {tuple(output.shape)}, which is not a grid of tokens "
                    f"for images of {tuple(image_size)} pixels."
                )
            output = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
        elif self.layout == "last":
            output = output.permute(0, 3, 1, 2)
        return output if output.dtype in (torch.float32, torch.float64) else output.float()

    def write(self, maps: Tensor, output: Tensor) -> Tensor:
        """The reverse of `read`: what the layer would have returned for these maps.

        Tokens before and after the grid are taken from `output`.
        """
        maps = maps.to(output.dtype)
        if self.layout == "tokens":
            tokens, end = maps.flatten(2).transpose(1, 2), output.shape[1] - self.suffix
            return torch.cat([output[:, : self.prefix], tokens, output[:, end:]], 1)
        return maps.permute(0, 2, 3, 1) if self.layout == "last" else maps


def is_even_grid(side: Sequence[int], image_size: Sequence[int]) -> bool:
    """Has a map of this side the image's aspect ratio, 2 x 2 positions or more, and at most half
    the image's side, or all of it where the image is small?
    """
    height, width = side
    if min(height, width) < 2 or abs(height * image_size[1] / image_size[0] - width) > 1:
        return False
    return height * 2 <= image_size[0] + 1 or (height == image_size[0] and max(image_size) <= 64)


def token_grid(count: int, image_size: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of a grid of `count` tokens with the aspect ratio of the image."""
    if count < 4:
        return None
    height = round(sqrt(count * image_size[0] / image_size[1]))
    if height < 2 or count % height or height * 2 > image_size[0]:
        return None
    width = count // height
    # 20 is 4 x 4 and four registers, not 4 x 5
    return (height, width) if abs(height * image_size[1] / image_size[0] - width) < 1 else None
