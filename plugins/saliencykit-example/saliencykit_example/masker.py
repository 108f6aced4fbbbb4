"""A masker: finds the mask."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator

from saliencykit import Alternative, BlackBox, InputError, Masker, MaskerOutput
from saliencykit.alternatives.blur import Blur
from saliencykit.core.class_scores import probability
from saliencykit.core.types import Images, Labels

_BLUR = Blur()


@final
@dataclass(frozen=True, kw_only=True)
class Peephole(Masker):
    """The picture through a peephole: how likely the class is when a single cell of it is shown.

    One evaluation per cell, no gradients. It finds parts that are enough on their own.

    Args:
        cells: Per side, >= 1.
        alternative: What hides the rest.

    Raises:
        InputError: `cells` is out of range.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> Peephole(cells=4)(black_box, *black_box.examples(2, generator=g), generator=g).shape
        torch.Size([2, 1, 16, 16])
    """

    cells: int = 7
    alternative: Alternative = _BLUR

    def __post_init__(self) -> None:
        """Check the number."""
        if self.cells < 1:
            raise InputError(f"Peephole(cells={self.cells}): at least one cell per side.")

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Probabilities, and their distance from the lowest one as the mask."""
        black_box, alternative = (
            black_box.optimized_for(images),
            self.alternative.for_black_box(black_box),
        )
        holes = torch.eye(self.cells**2, dtype=images.dtype, device=images.device).view(
            -1, 1, 1, self.cells, self.cells
        )
        shown = [
            F.interpolate(hole, size=images.shape[2:]).expand(len(images), -1, -1, -1)
            for hole in holes
        ]
        scores = torch.stack(
            [
                probability(black_box(alternative.edit(images, mask, generator)), labels)
                for mask in shown
            ],
            1,
        )
        scores = scores.view(-1, 1, self.cells, self.cells)
        above = scores - scores.amin((2, 3), keepdim=True)
        return MaskerOutput(above / above.amax((2, 3), keepdim=True).clamp_min(1e-5), scores)
