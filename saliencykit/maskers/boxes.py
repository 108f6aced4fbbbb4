"""Boxes that ignore the model: the baselines that every table prints."""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask


@final
@dataclass(frozen=True, kw_only=True)
class CentreBox(Masker):
    """A box in the middle: what a photographer's habit alone explains.

    Args:
        area: Its share of the image, in (0, 1]; half in the paper. The sides are rounded to pixels.

    Raises:
        InputError: The area is out of range.

    Example:
        >>> CentreBox(area=0.25).area
        0.25

    References:
        Dabkowski & Gal 2017, tables 1 and 2, "center box".
    """

    area: float = 0.5

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 < self.area <= 1:
            raise InputError(f"CentreBox(area={self.area}): an area is in (0, 1].")

    def mask(self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator) -> Mask:
        """The same box for all images; the black box is not asked."""
        batch, _, height, width = images.shape
        h, w = max(1, round(height * self.area**0.5)), max(1, round(width * self.area**0.5))
        top, left = (height - h) // 2, (width - w) // 2
        mask = images.new_zeros(batch, 1, height, width)
        mask[..., top : top + h, left : left + w] = 1
        return mask


@final
@dataclass(frozen=True, kw_only=True)
class WholeImage(Masker):
    """Everything: the mask that explains nothing.

    Example:
        >>> WholeImage()
        WholeImage()

    References:
        Dabkowski & Gal 2017, tables 1 and 2, "max box".
    """

    def mask(self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator) -> Mask:
        """All ones; the black box is not asked."""
        return images.new_ones(len(images), 1, *images.shape[2:])
