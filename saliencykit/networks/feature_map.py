"""FeatureMap: a layer of a classifier whose output is a spatial map of the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.types import Images
from saliencykit.networks.module_calls import ModuleCall

Layout: TypeAlias = Literal["maps", "last", "tokens"]
_PREFIXES = (0, 1, 2, 3, 4, 5, 8)  # class, distillation and register tokens before the grid
# they return another layer's output, or attention weights
_SKIPPED = ("Dropout", "DropPath", "Softmax", "Identity")


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
    """

    name: str
    layout: Layout
    channels: int
    side: tuple[int, int]
    prefix: int = 0

    def read(self, output: Tensor, image_size: Sequence[int]) -> Tensor:
        """The layer's output as (B, C, h, w), float32 unless it is float64.

        Args:
            output: What the layer returned.
            image_size: Height and width of the images, in pixels.

        Raises:
            InputError: The output is not a map of images of this size.
        """
        if self.layout == "tokens":
            tokens = output[:, self.prefix :]
            grid = _token_grid(tokens.shape[1], image_size)
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

        Tokens before the grid are taken from `output`.
        """
        maps = maps.to(output.dtype)
        if self.layout == "tokens":
            return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)
        return maps.permute(0, 2, 3, 1) if self.layout == "last" else maps


def as_feature_map(call: ModuleCall, images: Images) -> FeatureMap | None:
    """The call's layer as a FeatureMap, or None where its output is not a map of the image."""
    shape, size = tuple(call.output.shape), images.shape[2:]
    if (
        shape[0] != len(images)
        or not call.output.is_floating_point()
        or type(call.module).__name__.startswith(_SKIPPED)
    ):
        return None
    if len(shape) == 4:
        if _is_grid(shape[2:], size):
            return FeatureMap(call.name, "maps", shape[1], (shape[2], shape[3]))
        if _is_grid(shape[1:3], size):
            return FeatureMap(call.name, "last", shape[3], (shape[1], shape[2]))
    if len(shape) == 3:
        for prefix in _PREFIXES:
            if grid := _token_grid(shape[1] - prefix, size):
                return FeatureMap(call.name, "tokens", shape[2], grid, prefix)
    return None


def feature_maps_in(
    calls: Sequence[ModuleCall], images: Images
) -> list[tuple[FeatureMap, ModuleCall]]:
    """The calls whose output is a map of the image, in order, with their FeatureMap."""
    found = ((as_feature_map(call, images), call) for call in calls)
    return [(feature_map, call) for feature_map, call in found if feature_map is not None]


def _is_grid(side: Sequence[int], image_size: Sequence[int]) -> bool:
    """Has a map of this side the image's aspect ratio, 2 x 2 positions or more, and at most half
    the image's side, or all of it where the image is small?
    """
    height, width = side
    if min(height, width) < 2 or abs(height * image_size[1] / image_size[0] - width) > 1:
        return False
    return height * 2 <= image_size[0] + 1 or (height == image_size[0] and max(image_size) <= 64)


def _token_grid(count: int, image_size: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of a grid of `count` tokens with the aspect ratio of the image."""
    if count < 4:
        return None
    height = round(math.sqrt(count * image_size[0] / image_size[1]))
    if height < 2 or count % height or height * 2 > image_size[0]:
        return None
    width = count // height
    # 20 is 4 x 4 and four registers, not 4 x 5
    return (height, width) if abs(height * image_size[1] / image_size[0] - width) < 1 else None
