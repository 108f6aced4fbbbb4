"""Flat: each superpixel in its mean colour."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from saliencykit import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit_superpixel.segments import check_cut, superpixels


@final
@dataclass(frozen=True, kw_only=True)
class Flat(Alternative):
    """Each superpixel in its mean colour: texture goes, colour and layout stay.

    What LIME's authors hide superpixels with. Evidence that lies in colour survives it, and with
    many superpixels shape does, too.

    Args:
        segments: About how many superpixels, >= 1.
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
        check_cut(self, self.segments, self.compactness)

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Nothing is drawn, and `mask` is not used."""
        return torch.cat([self._flat(image) for image in images[:, None]])

    def _flat(self, image: Images) -> Images:
        numbers = superpixels(image, self.segments, self.compactness).flatten().to(image.device)
        count = int(numbers.max()) + 1
        pixels = image[0].flatten(1).double()
        sums = pixels.new_zeros(len(pixels), count).index_add(1, numbers, pixels)
        means = sums / torch.bincount(numbers, minlength=count)
        return means[:, numbers].to(image.dtype).view(image.shape)
