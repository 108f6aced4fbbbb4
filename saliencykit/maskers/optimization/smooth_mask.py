"""SmoothMask: a mask that cannot be rough, the dilation of a few cells by a soft disc."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log, sqrt
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Mask

_FINER = 2  # values of the mask per cell and side; the disc is twelve of them across
_NEGLIGIBLE = 0.2  # cells whose kernel is below this at a pixel do not reach it


@final
@dataclass(frozen=True)
class SmoothMask:
    """Cells to masks: `M(u) = smax over cells v of k(u - v) * cell(v)`.

    The kernel `k(d) = exp(-2 * max(0, d / width - 1/2)**2)` is flat within half a width and falls
    off like a Gaussian of half a width beyond, so one cell that is 1 makes a soft disc, and every
    mask is a union of such discs: no detail can be finer. `smax` is the mean of the values f
    weighted with `exp(f / temperature)`. It is a maximum that has a gradient, and unlike a sum it
    leaves the mask below 1.

    The mask is made at twice the cells' resolution, a quarter of a 224-pixel picture's, where it is
    already smooth: the pixels lie at the same distances from the cells around them everywhere, so
    the kernel is a small table.

    Args:
        size: Height and width of the picture, in pixels.
        cells: Along the shorter side, >= 1; as dense along the other.
        width: Of the kernel as a share of the shorter side, > 0.
        temperature: Of the smooth maximum, > 0.

    References:
        Fong, Patrick & Vedaldi 2019, section 3.3, the max-convolution and its smooth maximum; 21 px
        of 224, cells 7 px apart and 1/20 are the published numbers.
    """

    size: tuple[int, int]
    cells: int = 32
    width: float = 21 / 224
    temperature: float = 0.05

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells, no more than the picture has pixels."""
        step = max(1.0, min(self.size) / self.cells)
        return max(1, round(self.size[0] / step)), max(1, round(self.size[1] / step))

    @property
    def count(self) -> int:
        """So many values has a mask."""
        return self.grid[0] * self.grid[1] * _FINER**2

    def mask(self, cells: Tensor) -> Mask:
        """The masks, at twice the cells' resolution.

        Args:
            cells: (n, 1, rows, columns) in [0, 1], of `grid`.

        Returns:
            (n, 1, 2 * rows, 2 * columns) in [0, 1], differentiable in the cells.
        """
        around, kernel = self._table
        around, kernel = around.to(cells.device), kernel.to(cells)
        # outside the picture there is nothing: 0
        known = F.pad(cells, (self._reach,) * 4).flatten(1)
        values = (
            known.index_select(1, around.flatten()).view(len(cells), len(kernel), 1, -1)
            * kernel[..., None]
        )
        mask = (values * torch.softmax(values / self.temperature, dim=1)).sum(1)
        return F.pixel_shuffle(mask.view(-1, _FINER**2, *self.grid), _FINER)

    @cached_property
    def _reach(self) -> int:
        """So many cells away a cell can still matter."""
        return max(
            1, ceil((0.5 + sqrt(-log(_NEGLIGIBLE) / 2)) * self.width * min(self.grid) + 0.25)
        )

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Places of each cell's neighbours in the padded grid, (neighbours, cells), and `k`,
        (neighbours, pixels of a cell).
        """
        side = torch.arange(-self._reach, self._reach + 1)
        inside = (torch.arange(_FINER, dtype=torch.float64) + 0.5) / _FINER - 0.5
        away = (side[:, None] - inside).square()  # (neighbours, pixels) along one side
        distance = (away[:, None, :, None] + away[None, :, None, :]).flatten(2).flatten(
            0, 1
        ).sqrt() / (self.width * min(self.grid))
        kernel = torch.exp(-2 * (distance - 0.5).clamp_min(0).square())
        near = (kernel >= _NEGLIGIBLE).any(1)
        rows, columns = self.grid
        stride = columns + 2 * self._reach
        offsets = (side[:, None] * stride + side).flatten()[near]
        own = (
            (torch.arange(rows)[:, None] + self._reach) * stride
            + torch.arange(columns)
            + self._reach
        )
        return offsets[:, None] + own.flatten(), kernel[near]
