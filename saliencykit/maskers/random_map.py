"""RandomMap: noise that knows nothing; the baseline below which no method may fall."""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import whole_numbers
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask


@final
@dataclass(frozen=True, kw_only=True)
class RandomMap(Masker):
    """A coarse grid of uniform random numbers, enlarged: smooth like a saliency map, and without
    any knowledge.

    What a metric gives for it is what the metric gives for nothing: insertion on a picture that
    survives any half of its pixels is high for noise too. It depends on the picture and the seed
    alone; black box and label are not asked.

    Args:
        grid_size: Random numbers per side, >= 1. 7 is as coarse as the last maps of most networks.

    Raises:
        InputError: The number is out of range.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> mask = RandomMap()(black_box, images, labels, generator=g)
        >>> mask.shape, bool((mask[0] == mask[1]).all())
        (torch.Size([2, 1, 16, 16]), False)

    References:
        Ours; the control that Adebayo et al. 2018, "Sanity Checks for Saliency Maps", ask for in
        its simplest form.
    """

    grid_size: int = 7

    def __post_init__(self) -> None:
        """Check the number."""
        whole_numbers(self, "grid_size")

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """(B, 1, cells, cells), uniform in [0, 1)."""
        return rng.uniform(images, (1, self.grid_size, self.grid_size), generator=generator)
