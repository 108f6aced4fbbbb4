"""From a few cells to a mask: free, where area has a price, or nested, where area is given."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Mask

_GOLDEN = 0.6180339887498949  # its multiples modulo 1 fill [0, 1) evenly, however many are taken
_ROUNDS = 30  # halvings of the range in which the threshold is sought: to 1e-8 of it
# a picture without evidence has gradients of 1e-16: without this its mask would be made of rounding
# errors
_NOISE = 1e-9
_PROBE = 56  # the threshold is sought on about this many pixels a side; the scores are smooth


class Parametrization(ABC):
    """How the optimiser's cells, (B, 1, n, n), become a mask."""

    @abstractmethod
    def mask(self, cells: Tensor, size: tuple[int, int], share: float) -> Mask:
        """The mask (B, 1, H, W), differentiable in `cells`; `share` in [0, 1] says which one of a
        family.
        """

    @abstractmethod
    def step(
        self, cells: Tensor, gradient: Tensor, memory: tuple[Tensor, Tensor], step: int, rate: float
    ) -> Tensor:
        """The cells after one step downhill; `memory` is two tensors like them, 0 at first, changed
        in place; `step` is from 0.
        """


def share_of(draw: int) -> float:
    """Which mask of the family the draw with this number takes, in [0, 1)."""
    return (draw + 1) * _GOLDEN % 1


@final
@dataclass(frozen=True)
class Free(Parametrization):
    """`M = sigmoid(cells, resize_maps)`: how much is kept is up to the objective, which has to charge
    for it.

    The optimiser is Adam (Kingma & Ba 2015, algorithm 1).
    """

    def mask(self, cells: Tensor, size: tuple[int, int], share: float) -> Mask:
        """The one mask; `share` makes no difference."""
        return torch.sigmoid(enlarge(cells, size))

    def step(
        self, cells: Tensor, gradient: Tensor, memory: tuple[Tensor, Tensor], step: int, rate: float
    ) -> Tensor:
        """One step of Adam; elementwise, so that pictures do not influence each other."""
        first, second = memory
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).add_(gradient.square(), alpha=0.001)
        size = (second / (1 - 0.999 ** (step + 1))).sqrt().add(1e-8)
        return cells - rate * first / (1 - 0.9 ** (step + 1)) / size


@final
@dataclass(frozen=True)
class Nested(Parametrization):
    """A ranking of the pixels: the mask of area `a` keeps the best `a` of them, so smaller masks
    lie inside larger ones.

    `M = sigmoid((S - t) / softness)`: S are the cells, smoothly enlarged and divided by their
    standard deviation, and the threshold t is the one that gives M the mean a. Its derivative is
    that of the implicit function, so a step that lifts one region lowers the rest, and nothing is
    gained by lifting everything.

    The optimiser adds up gradients, each divided by its root mean square over the picture. It
    follows what most trials agree on: as the cells grow, a single trial moves the ranking less and
    less. An optimiser that follows each trial (Adam) finds masks that score better under the fills
    it saw and worse under others.

    Args:
        areas: The smallest and the largest area, 0 < a <= b < 1.
        softness: Width of the mask's edge in standard deviations of S, > 0.
    """

    areas: tuple[float, float]
    softness: float

    def mask(self, cells: Tensor, size: tuple[int, int], share: float) -> Mask:
        """The mask with the area `areas[0] + share * (areas[1] - areas[0])`."""
        area = self.areas[0] + share * (self.areas[1] - self.areas[0])
        scores = self.scores(cells, size)
        level = _threshold(scores.detach(), area, self.softness)
        slope = torch.sigmoid((scores.detach() - level) / self.softness)
        slope = slope * (1 - slope)
        weights = slope / slope.sum((1, 2, 3), keepdim=True).clamp_min(
            torch.finfo(slope.dtype).tiny
        )
        # its value is taken away again: only the derivative of t remains
        moved = (scores * weights).sum((1, 2, 3), keepdim=True)
        return torch.sigmoid((scores - level - (moved - moved.detach())) / self.softness)

    def scores(self, cells: Tensor, size: tuple[int, int]) -> Tensor:
        """S, (B, 1, H, W): mean 0, standard deviation 1; constant cells give 0."""
        large = enlarge(cells, size)
        large = large - large.mean((1, 2, 3), keepdim=True)
        spread = large.detach().square().mean((1, 2, 3), keepdim=True).sqrt()
        return large / (spread + 0.1)  # 0.1, one step: the first steps are not blown up

    def step(
        self, cells: Tensor, gradient: Tensor, memory: tuple[Tensor, Tensor], step: int, rate: float
    ) -> Tensor:
        """One step of the length `rate`, root mean square over the picture's cells; none where the
        gradient is rounding noise.
        """
        length = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        return cells - rate * gradient / length.clamp_min(_NOISE)


def enlarge(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells to pixels, bicubic: smooth, and it may reach a little beyond the cells' values."""
    return F.interpolate(cells, size=size, mode="bicubic", align_corners=False)


def _threshold(scores: Tensor, area: float, softness: float) -> Tensor:
    """The t for which the mean of `sigmoid((scores - t) / softness)` is `area`, (B, 1, 1, 1)."""
    every = max(1, min(scores.shape[2:]) // _PROBE)
    rows = scores[:, 0, every // 2 :: every, every // 2 :: every].flatten(1)
    low, high = rows.amin(1) - 20 * softness, rows.amax(1) + 20 * softness
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        above = torch.sigmoid((rows - middle[:, None]) / softness).mean(1) > area
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return ((low + high) / 2).view(-1, 1, 1, 1)
