"""BlurPyramid: a blur whose width depends on the mask."""

from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import gaussian_blur, in_pixels
from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class BlurPyramid(Alternative):
    """The image under a blur whose width depends on the mask: none where the mask is 1, the widest
    where it is 0.

    `E(u) = (g_s * X)(u)` with `s = sigma * (1 - M(u))`. A few blurs are computed once per image,
    and neighboring ones interpolated linearly. With `compose` and one blur, M = 0.5 lays a faint
    sharp image over a blurred one, which a network still recognizes; here half a mask is half the
    sharpness, so gray masks cannot hide evidence.

    Args:
        levels: Number of blurs, the sharp image included, >= 2; with 2 it is `Blur`.
        sigma: The widest standard deviation, > 0: in pixels if >= 1, else as a fraction of the
            image's shorter side; the published 20 px of 224 is 0.09. Edges are replicated.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> image = torch.rand(1, 3, 16, 16)
        >>> same = BlurPyramid().edit(image, torch.ones(1, 1, 16, 16), Generator())
        >>> torch.equal(same, image)
        True

    References:
        Fong, Patrick & Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations and
        Smooth Masks", section 3.2.
    """

    levels: Annotated[int, "[2, inf)"] = 8
    sigma: Annotated[float, "(0, inf)"] = 0.09

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The widest blur, for a mask of 0; `generator` and `mask` are not used."""
        return gaussian_blur(images, in_pixels(self.sigma, images))

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """The images, blurred more where the mask is lower; `generator` is not used."""
        return between(self.pyramid(images), mask[:, None])[:, 0]

    def pyramid(self, images: Images) -> Tensor:
        """The images from the widest blur to none, sigma in equal steps, (B, levels, C, H, W),
        without gradient.
        """
        widest = in_pixels(self.sigma, images)
        with torch.no_grad():
            blurs = [
                gaussian_blur(images, widest * (1 - level / (self.levels - 1)))
                for level in range(self.levels - 1)
            ]
            return torch.stack([*blurs, images], dim=1)


def between(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Interpolate each pixel linearly between the two levels on both sides of its mask;
    differentiable in the masks.

    Args:
        pyramid: (B, L, C, H, W), level 0 for a mask of 0, level L - 1 for a mask of 1.
        masks: (B, n, 1, H, W) in [0, 1]; n edits of each image share its pyramid.

    Returns:
        The edits, (B, n, C, H, W).

    Example:
        >>> pyramid = torch.tensor([0.0, 10.0, 20.0]).view(1, 3, 1, 1, 1)
        >>> between(pyramid, torch.full((1, 1, 1, 1, 1), 0.25)).item()
        5.0
    """
    last = pyramid.shape[1] - 1
    place = masks.to(pyramid.dtype) * last
    level = place.detach().floor().clamp_(0, last - 1)
    lower = level.long().expand(-1, -1, *pyramid.shape[2:])
    return torch.lerp(pyramid.gather(1, lower), pyramid.gather(1, lower + 1), place - level)
