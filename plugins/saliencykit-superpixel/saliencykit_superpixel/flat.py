"""Flat: each superpixel in its mean color."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from saliencykit import Alternative
from saliencykit.core import Images, Mask
from saliencykit_superpixel.segments import check_segmentation, superpixels


@final
@dataclass(frozen=True, kw_only=True)
class Flat(Alternative):
    """Each superpixel in its mean color: it removes texture, and keeps color and layout.

    This is what LIME's authors replace superpixels with. Evidence of color survives it, and with
    many superpixels so does shape.

    Args:
        segments: Approximate number of superpixels, >= 1.
        compactness: See `superpixels`.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> Flat(segments=4)(torch.rand(1, 3, 16, 16), generator=Generator()).shape
        torch.Size([1, 3, 16, 16])
    """

    segments: int = 50
    compactness: float = 10.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_segmentation(self, self.segments, self.compactness)

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Deterministic; does not depend on `mask`."""
        return torch.cat([self._flat(image) for image in images[:, None]])

    def _flat(self, image: Images) -> Images:
        numbers = superpixels(image, self.segments, self.compactness).flatten().to(image.device)
        count = int(numbers.max()) + 1
        pixels = image[0].flatten(1).double()
        sums = pixels.new_zeros(len(pixels), count).index_add(1, numbers, pixels)
        means = sums / torch.bincount(numbers, minlength=count)
        return means[:, numbers].to(image.dtype).view(image.shape)
