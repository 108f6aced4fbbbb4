"""Crop: the bounding box of the mask, enlarged to the whole image."""

from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.geometry import enlarge_boxes, tight_boxes
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class Crop(Alternative):
    """The bounding box of the kept pixels, enlarged to the whole image, whatever its aspect ratio.

    The model sees nothing artificial, but the mask's shape inside the box is ignored and the
    object's scale changes. No gradient reaches the mask: use it to evaluate, not to optimize.

    Args:
        threshold: Pixels with a mask >= this are inside, in (0, 1]. A mask below it everywhere
            keeps the whole image.

    Raises:
        InputError: The threshold is out of range.

    Example:
        >>> images, mask = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:6, 2:6] = 1
        >>> Crop().edit(images, mask, torch.Generator()).shape
        torch.Size([1, 3, 8, 8])

    References:
        Dabkowski & Gal 2017, section 5.2: the saliency metric's crop.
    """

    threshold: Annotated[float, "(0, 1]"] = 0.5

    uses_mask = True

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The enlarged crop, or the images if there is no mask."""
        return images.clone() if mask is None else self.edit(images, mask, generator)

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """Each image's crop, (B, C, H, W), bilinear."""
        with torch.no_grad():
            return enlarge_boxes(images, tight_boxes(mask >= self.threshold))
