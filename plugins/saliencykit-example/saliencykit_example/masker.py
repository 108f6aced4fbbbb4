"""A masker: an attribution method that returns a mask."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator

from saliencykit import Alternative, BlackBox, InputError, Masker, MaskerOutput
from saliencykit.alternatives import Blur
from saliencykit.core import Images, Labels, probability

_BLUR = Blur()


@final
@dataclass(frozen=True, kw_only=True)
class Peephole(Masker):
    """The image through a peephole: the probability of the class with a single visible cell.

    One query per cell, no gradients. It finds parts that suffice on their own.

    Args:
        cells: Per side, >= 1.
        alternative: What hides the other cells.

    Raises:
        InputError: `cells` is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
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
        """Probabilities as attributions; as the mask, their distance from the lowest one."""
        alternative = self.alternative.for_black_box(black_box)
        black_box, columns = black_box.optimized_for(images), []
        cells = torch.eye(self.cells**2, dtype=images.dtype, device=images.device)
        for cell in cells.view(-1, 1, 1, self.cells, self.cells):
            visible = F.interpolate(cell, size=images.shape[2:]).expand(len(images), -1, -1, -1)
            edits = alternative.edit(images, visible, generator)
            columns.append(probability(black_box(edits), labels, black_box.output))
        scores = torch.stack(columns, 1).view(-1, 1, self.cells, self.cells)
        above = scores - scores.amin((2, 3), keepdim=True)
        return MaskerOutput(above / above.amax((2, 3), keepdim=True).clamp_min(1e-5), scores)
