"""A black box: pixels in, logits out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from saliencykit import BlackBox, Geometry
from saliencykit.black_boxes import fit_image
from saliencykit.core import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True, kw_only=True)
class MainColor(BlackBox):
    """Red, green or blue: the main color of an image.

    Its reasons are known: a pixel is evidence for the class of its color.

    Args:
        sharpness: The factor from the mean of a color, in [0, 1], to its logit, > 0.

    Example:
        >>> import torch
        >>> MainColor()(torch.tensor([0.9, 0.1, 0.2]).view(1, 3, 1, 1)).tolist()
        [[9.0, 1.0, 2.0]]
    """

    sharpness: float = 10.0

    num_classes = 3
    differentiable = True
    class_names = ("red", "green", "blue")

    def prepare(self, image: "Image") -> tuple[Images, Geometry]:
        """64 x 64 pixels, raw in [0, 1]."""
        return fit_image(image, (64, 64), fit="squash")

    def logits(self, images: Images) -> Logits:
        """The mean of each color, (B, 3)."""
        return self.sharpness * images.mean((2, 3))
