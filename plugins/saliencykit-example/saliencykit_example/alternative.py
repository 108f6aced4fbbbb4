"""An alternative: what replaces the pixels that a mask removes."""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit import Alternative
from saliencykit.core import Images, Mask, rng


@final
@dataclass(frozen=True, kw_only=True)
class Shuffled(Alternative):
    """The image's own pixels in a random order: the colors remain, every shape is lost.

    Example:
        >>> import torch
        >>> images = torch.arange(4.0).view(1, 1, 2, 2)
        >>> sorted(Shuffled()(images, generator=torch.Generator()).flatten().tolist())
        [0.0, 1.0, 2.0, 3.0]
    """

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Drawn with `core.rng`: an image gets the same order alone and in a batch."""
        pixels = images.flatten(2)
        order = rng.uniform(images, pixels.shape[2:], generator=generator).argsort(1)
        return pixels.gather(2, order[:, None].expand_as(pixels)).view(images.shape)
