"""Blur: the image itself, out of focus."""

from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class Blur(Alternative):
    """The image itself, out of focus.

    It removes detail but keeps color and layout, so it introduces little evidence of its own.
    Evidence in color, and the silhouette of a large object, survive. The paper alternates it with
    noise, see `Choice`.

    Args:
        sigma: Standard deviation of the Gaussian, > 0: in pixels if >= 1, else as a fraction of the
            image's shorter side. The paper's 10 px of 224 is 0.045. Edges are replicated.

    Raises:
        InputError: sigma is not positive.

    Example:
        >>> from torch import Generator, rand
        >>> Blur(sigma=3.0)(rand(1, 3, 16, 16), generator=Generator()).shape
        torch.Size([1, 3, 16, 16])

    References:
        Dabkowski & Gal 2017, "Fighting the introduced evidence"; Fong & Vedaldi 2017, section 3.1.
    """

    sigma: Annotated[float, "(0, inf)"] = 0.045

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The blurred images; `generator` and `mask` are not used."""
        return gaussian_blur(images, in_pixels(self.sigma, images))


def in_pixels(sigma: float, images: Images) -> float:
    """A width from 1 on is in pixels, below it a fraction of the shorter side."""
    return sigma if sigma >= 1 else sigma * min(images.shape[2:])


def gaussian_blur(images: Images, sigma: float) -> Images:
    """Gaussian blur with replicated edges, by two matrix products: exact for every sigma and size.

    The kernel reaches to 4 sigma; row i of the matrix holds its weights, with those beyond the edge
    added to the edge pixel.

    Args:
        images: (B, C, H, W), any float dtype.
        sigma: Standard deviation in pixels, > 0.

    Example:
        >>> gaussian_blur(torch.full((1, 1, 4, 4), 0.5), 2.0).unique().tolist()
        [0.5]
    """
    rows = _smoother(images.shape[2], sigma, images)
    columns = _smoother(images.shape[3], sigma, images)
    return rows @ images @ columns.T


def _smoother(side: int, sigma: float, like: Tensor) -> Tensor:
    reach = max(1, round(4 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device="cpu")
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    places = torch.arange(side, device="cpu")[:, None] + offsets.long()
    matrix = torch.zeros(side, side, dtype=torch.float64, device="cpu")
    matrix.scatter_add_(1, places.clamp(0, side - 1), weights.expand(side, -1))
    return matrix.to(dtype=like.dtype, device=like.device)
