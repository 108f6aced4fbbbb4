"""A black box: pixels in, logits out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from saliencykit import BlackBox, Geometry
from saliencykit.black_boxes.preprocessing import fit_image
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True, kw_only=True)
class MainColour(BlackBox):
    """Red, green or blue: the colour that a picture has most of.

    Its reasons are known: a pixel speaks for the class whose colour it has.

    Args:
        sharpness: What the mean of a colour, in [0, 1], is multiplied with to give its logit, > 0.

    Example:
        >>> import torch
        >>> MainColour()(torch.tensor([0.9, 0.1, 0.2]).view(1, 3, 1, 1)).tolist()
        [[9.0, 1.0, 2.0]]
    """

    sharpness: float = 10.0

    num_classes = 3
    differentiable = True
    class_names = ("red", "green", "blue")

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """64 x 64 pixels, raw in [0, 1]."""
        return fit_image(picture, (64, 64), fit="squash")

    def logits(self, images: Images) -> Logits:
        """The mean of each colour, (B, 3)."""
        return self.sharpness * images.mean((2, 3))
