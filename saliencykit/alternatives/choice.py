"""Choice: one of several alternatives, drawn for each image."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.noise import Noise
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class Choice(Alternative):
    """One of several alternatives, drawn for each image at every call.

    The paper's defense: a mask that cannot know which fill it will meet cannot exploit the
    evidence that one of them introduces.

    Args:
        alternatives: The alternatives, each equally likely; by default the paper's blur
            and color plus noise. They must be single fills: their `edit` is not used.

    Raises:
        InputError: There is none.

    Example:
        >>> from torch import Generator, rand
        >>> Choice()(rand(4, 3, 16, 16), generator=Generator()).shape
        torch.Size([4, 3, 16, 16])

    References:
        Dabkowski & Gal 2017, "Fighting the introduced evidence": 50 % blur, 50 % random color plus
        noise.
    """

    alternatives: tuple[Alternative, ...] = (Blur(), Noise())

    def __post_init__(self) -> None:
        """Check the alternatives."""
        if not self.alternatives or not all(isinstance(a, Alternative) for a in self.alternatives):
            raise InputError(
                f"Choice(alternatives={self.alternatives!r}) takes at least one Alternative."
            )

    def for_black_box(self, black_box: BlackBox) -> Alternative:
        """The choice among the alternatives made ready for this black box."""
        return Choice(alternatives=tuple(a.for_black_box(black_box) for a in self.alternatives))

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """Draw for each image; an alternative fills only the images that drew it."""
        count = len(self.alternatives)
        drawn = rng.uniform(images, (1,), generator=generator)[:, 0] * count
        drawn = drawn.long().clamp_max(count - 1)
        fill = torch.empty_like(images)
        for index, alternative in enumerate(self.alternatives):
            rows = (drawn == index).nonzero().flatten()
            own = rng.fork(generator)  # advances `generator` equally whatever is drawn
            if len(rows):
                part = None if mask is None else mask[rows]
                fill[rows] = alternative(images[rows], generator=own, mask=part)
        return fill
