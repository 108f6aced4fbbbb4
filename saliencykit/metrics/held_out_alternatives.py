"""Held-out alternatives: for evaluation only, so that no mask was made with them.

`tests/benchmarks/test_held_out.py` fails where anything that trains, tunes or optimizes masks uses
them.
"""

from dataclasses import dataclass
from typing import Annotated, final

from torch import Generator

from saliencykit.core import rng
from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.types import Images, Mask
from saliencykit.metrics.linear_imputation import impute


@final
@dataclass(frozen=True, kw_only=True)
class RoadImputation(Alternative):
    """ROAD's fill: each removed pixel is the weighted mean of its eight neighbors, removed ones
    included, plus noise.

    No edge shows where the hole was. The mask is binarized, `mask >= 0.5`; an image without any
    kept pixel becomes its own mean color. See `impute` for the accuracy.

    Args:
        std: Standard deviation of the noise on the removed pixels, for pixels in [0, 1], >= 0; the
            paper's is 0.01.

    Raises:
        InputError: `std` is negative.

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
        (ROAD), section 5.
    """

    std: Annotated[float, "[0, inf)"] = 0.01

    uses_mask = True

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The images with the pixels outside the mask imputed; without a mask, all of them."""
        kept = (images[:, :1] < -1 if mask is None else mask >= 0.5).to(images.device)
        noise = rng.normal(images, images.shape[1:], generator=generator, std=self.std)
        return impute(images, kept) + noise * (~kept)

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """The images with the pixels outside the binary mask imputed."""
        return compose(
            images, (mask >= 0.5).to(images.dtype), self(images, generator=generator, mask=mask)
        )


@final
@dataclass(frozen=True, kw_only=True)
class ShuffledBlocks(Alternative):
    """The image itself with its blocks shuffled.

    Colors, textures and small parts of the object remain, in the wrong places: the hardest fill for
    a mask that relies on everything else looking empty.

    Args:
        block: Side of a block in pixels, >= 1, halved until the image has at least 2 x 2 blocks. An
            incomplete block at the right or lower edge stays in place.

    Raises:
        InputError: `block` is less than 1.
    """

    block: Annotated[int, "[1, inf)"] = 32

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Each image with its blocks in random order; the mask is not used."""
        batch, channels, height, width = images.shape
        side = self.block
        while side > 1 and side * 2 > min(height, width):
            side //= 2
        down, across = height // side, width // side
        order = rng.uniform(images, (down * across,), generator=generator).argsort(1)
        blocks = images[..., : down * side, : across * side].reshape(
            batch, channels, down, side, across, side
        )
        blocks = blocks.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, blocks, C, side, side)
        moved = blocks.gather(1, order[:, :, None, None, None].expand_as(blocks))
        moved = moved.reshape(batch, down, across, channels, side, side).permute(0, 3, 1, 4, 2, 5)
        fill = images.clone()
        fill[..., : down * side, : across * side] = moved.reshape(
            batch, channels, down * side, across * side
        )
        return fill
