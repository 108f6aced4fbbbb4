"""Fills for judging only: nothing that trains, tunes or optimises a mask may use them, so that they
stay unseen.

`tests/benchmarks/test_unseen.py` reads the source and fails where something but a metric does.
"""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit.core import rng
from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Mask
from saliencykit.metrics.linear_imputation import impute


@final
@dataclass(frozen=True, kw_only=True)
class RoadImputation(Alternative):
    """ROAD's fill: each removed pixel is the weighted mean of its eight neighbours, removed ones
    included, plus noise.

    No edge shows where the hole was. A mask is used as the binary one `mask >= 0.5`; a picture of
    which nothing is kept becomes its own mean colour. See `impute` for how exact it is.

    Args:
        std: Standard deviation of the noise on the removed pixels, in units of pixels in [0, 1], >=
            0; 0.01 published.

    Raises:
        InputError: std is negative.

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
        (ROAD), section 5.
    """

    std: float = 0.01

    uses_mask = True

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 <= self.std < float("inf"):
            raise InputError(f"LinearlyImputed(std={self.std}): std is >= 0.")

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The images with the pixels outside the mask imputed; without a mask, all of them are."""
        kept = (images[:, :1] < -1 if mask is None else mask >= 0.5).to(images.device)
        grain = rng.normal(images, images.shape[1:], generator=generator, std=self.std)
        return impute(images, kept) + grain * (~kept)

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """The images with the pixels outside the binary mask imputed."""
        return compose(
            images, (mask >= 0.5).to(images.dtype), self(images, generator=generator, mask=mask)
        )


@final
@dataclass(frozen=True, kw_only=True)
class ShuffledBlocks(Alternative):
    """The picture itself, cut into blocks that change places.

    Colours, textures and small parts of the object stay, at the wrong places: the hardest fill for
    a mask that relies on everything else looking empty.

    Args:
        block: Side of a block in pixels, >= 1; what does not fill a block at the right and lower
            edge stays where it is. Halved until the picture holds at least 2 x 2 blocks.

    Raises:
        InputError: The block has no pixel.
    """

    block: int = 32

    def __post_init__(self) -> None:
        """Check the number."""
        if self.block < 1:
            raise InputError(f"ShuffledBlocks(block={self.block}): a block has at least 1 pixel.")

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Each image's blocks in a random order; the mask is not used."""
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
