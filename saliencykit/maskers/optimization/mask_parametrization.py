"""From a small grid of values to a mask: one mask for objectives that penalize its area, nested
masks of given areas for those that do not.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.nested_masks import nested_masks
from saliencykit.core.types import Mask

_GOLDEN_RATIO = 0.6180339887498949  # less one
# an image without evidence has gradients of 1e-16, and its mask would be made of rounding errors
_MIN_GRADIENT = 1e-9


class Parametrization(ABC):
    """How a grid of values (B, 1, n, n) that is optimized becomes a mask."""

    @abstractmethod
    def mask(self, grid: Tensor, size: tuple[int, int], position: float) -> Mask:
        """The mask (B, 1, H, W), differentiable in the grid. Of a family of masks, `position` in
        [0, 1] chooses one, from the smallest to the largest.
        """

    @abstractmethod
    def step(
        self, grid: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, lr: float
    ) -> Tensor:
        """The grid after one descent step.

        Args:
            grid: (B, 1, n, n).
            gradient: Like the grid.
            moments: Running moments of the gradient, zero at first; updated in place.
            step: Counted from 0.
            lr: Length of a step.
        """


def low_discrepancy(index: int, ratio: float = _GOLDEN_RATIO) -> float:
    """A sequence in [0, 1): multiples of the ratio, by default golden, modulo 1, which cover it
    evenly however many are taken.
    """
    return (index + 1) * ratio % 1


@final
@dataclass(frozen=True)
class SigmoidMask(Parametrization):
    """`M = sigmoid(upsampled grid)`, for an objective that penalizes area.

    Optimized by Adam (Kingma & Ba 2015, algorithm 1).
    """

    def mask(self, grid: Tensor, size: tuple[int, int], position: float) -> Mask:
        """The mask; there is one for every position."""
        return torch.sigmoid(_upsampled(grid, size))

    def step(
        self, grid: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, lr: float
    ) -> Tensor:
        """A step of Adam; elementwise, so images do not influence each other."""
        first, second = moments
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).add_(gradient.square(), alpha=0.001)
        size = (second / (1 - 0.999 ** (step + 1))).sqrt().add(1e-8)
        return grid - lr * first / (1 - 0.9 ** (step + 1)) / size


@final
@dataclass(frozen=True)
class NestedMasks(Parametrization):
    """A ranking of the pixels: the mask of area `a` keeps the best fraction `a` of them, so that
    smaller masks lie inside larger ones.

    They are `core.nested_masks` of the grid, upsampled smoothly and divided by its standard
    deviation: a step that raises one region lowers the others, and raising all of them gains
    nothing.

    The optimizer sums gradients, each divided by its root mean square over the image. It follows
    what most trials agree on: as the values grow, a single trial changes the ranking less and less.
    An optimizer that follows each trial (Adam) finds masks that score better under the fills it has
    seen and worse under others.

    Args:
        areas: Smallest and largest area, 0 < a <= b < 1.
        edge_width: Width of the mask's edge in standard deviations of the scores, > 0.
    """

    areas: tuple[float, float]
    edge_width: float

    def mask(self, grid: Tensor, size: tuple[int, int], position: float) -> Mask:
        """The mask with the area `areas[0] + position * (areas[1] - areas[0])`."""
        area = self.areas[0] + position * (self.areas[1] - self.areas[0])
        scores = self.scores(grid, size)
        return nested_masks(scores, (area,), edge_width=self.edge_width)

    def scores(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """The scores, (B, 1, H, W): mean 0, standard deviation 1; a constant grid gives 0."""
        large = _upsampled(grid, size)
        large = large - large.mean((1, 2, 3), keepdim=True)
        spread = large.detach().square().mean((1, 2, 3), keepdim=True).sqrt()
        return large / (spread + 0.1)  # 0.1, one step: the first steps are not scaled up

    def step(
        self, grid: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, lr: float
    ) -> Tensor:
        """A step with root mean square `lr` over the grid of each image; none where the gradient is
        rounding noise.
        """
        length = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        return grid - lr * gradient / length.clamp_min(_MIN_GRADIENT)


def _upsampled(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """The grid at the size of the image, bicubic: smooth, may exceed the values of the grid."""
    return F.interpolate(grid, size=size, mode="bicubic", align_corners=False)
