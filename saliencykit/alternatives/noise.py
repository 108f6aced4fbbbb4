"""Noise: a random color with Gaussian noise."""

from dataclasses import dataclass
from typing import Annotated, final

from torch import Generator

from saliencykit.core import rng
from saliencykit.core.alternative import Alternative, value_range
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class Noise(Alternative):
    """One random color per image with Gaussian noise.

    It removes everything, silhouettes too. A classifier may see texture in it, but a mask cannot
    exploit any single color, because every call draws another. With `spread=0, std=0` it is gray.

    Args:
        spread: The color is drawn per channel from 0.5 +- `spread`, in units of the images' range
            [0, 1]; in [0, 0.5].
        std: Standard deviation of the noise of every pixel and channel, >= 0, in the same units.
            The result is not clipped.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from torch import Generator, rand
        >>> Noise()(rand(1, 3, 16, 16), generator=Generator()).shape
        torch.Size([1, 3, 16, 16])

    References:
        Dabkowski & Gal 2017, "Fighting the introduced evidence". The numbers are those of the
        authors' published code, +-0.33 and 0.11 on its scale [-1, 1].
    """

    spread: Annotated[float, "[0, 0.5]"] = 0.165
    std: Annotated[float, "[0, inf)"] = 0.055

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Color plus noise; depends on the images only through their range and their key."""
        low, high = value_range(images)
        one, other = 0.5 - self.spread, 0.5 + self.spread
        shape = (images.shape[1], 1, 1)
        color = rng.uniform(images, shape, generator=generator, low=one, high=other)
        grain = rng.normal(images, images.shape[1:], generator=generator, std=self.std)
        return low + (high - low) * (color + grain)
