"""An alternative: what stands where the mask is 0."""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit import Alternative
from saliencykit.core import rng
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class Shuffled(Alternative):
    """The picture's own pixels in a random order: the colours stay, every shape is lost.

    Example:
        >>> import torch
        >>> images = torch.arange(4.0).view(1, 1, 2, 2)
        >>> sorted(Shuffled()(images, generator=torch.Generator()).flatten().tolist())
        [0.0, 1.0, 2.0, 3.0]
    """

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Drawn with `core.draw`: a picture gets the same order on its own and in a batch."""
        order = rng.uniform(images, (images[0, 0].numel(),), generator=generator).argsort(1)
        return (
            images.flatten(2)
            .gather(2, order[:, None].expand(-1, images.shape[1], -1))
            .view(images.shape)
        )
