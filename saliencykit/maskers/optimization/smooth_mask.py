"""SmoothMask: smooth by construction, the dilation of a small grid by a soft disc."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log, sqrt
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Mask

_FINER = 2  # values of the mask per grid value and side; the disc is twelve of them across
_NEGLIGIBLE = 0.2  # grid values whose kernel is below this at a pixel do not reach it


@final
@dataclass(frozen=True)
class SmoothMask:
    """Grid to mask: `M(u) = smax over grid points v of k(u - v) * grid(v)`.

    The kernel `k(d) = exp(-2 * max(0, d / width - 1/2)**2)` is flat within half a width and falls
    off like a Gaussian of half a width beyond, so one grid point that is 1 makes a soft disc, and
    every mask is a union of such discs, without finer detail. `smax` is the mean of the values f
    weighted with `exp(f / temperature)`: a maximum that has a gradient, and that unlike a sum keeps
    the mask below 1.

    The mask is computed at twice the resolution of the grid, a quarter of that of a 224-pixel
    image, where it is already smooth. Its pixels have the same distances to the grid points around
    them everywhere, so the kernel is a small table.

    Args:
        size: Height and width of the image, in pixels.
        grid_size: Grid points along the shorter side, >= 1; as dense along the other.
        width: Of the kernel as a fraction of the shorter side, > 0.
        temperature: Of the smooth maximum, > 0.

    Example:
        >>> smooth = SmoothMask((32, 48), grid_size=8)
        >>> smooth.shape, smooth.mask(torch.zeros(1, 1, *smooth.shape)).shape
        ((8, 12), torch.Size([1, 1, 16, 24]))

    References:
        Fong, Patrick & Vedaldi 2019, section 3.3, the max-convolution and its smooth maximum;
        21 px of 224, grid points 7 px apart and 1/20 are the published numbers.
    """

    size: tuple[int, int]
    grid_size: int = 32
    width: float = 21 / 224
    temperature: float = 0.05

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid, at most the pixels of the image."""
        step = max(1.0, min(self.size) / self.grid_size)
        return max(1, round(self.size[0] / step)), max(1, round(self.size[1] / step))

    @property
    def num_values(self) -> int:
        """The number of values of a mask."""
        return self.shape[0] * self.shape[1] * _FINER**2

    def mask(self, grid: Tensor) -> Mask:
        """The masks, at twice the resolution of the grid.

        Args:
            grid: (n, 1, rows, columns) in [0, 1], of `shape`.

        Returns:
            (n, 1, 2 * rows, 2 * columns) in [0, 1], differentiable in the grid.
        """
        neighbors, kernel = self._table
        neighbors, kernel = neighbors.to(grid.device), kernel.to(grid)
        padded = F.pad(grid, (self._reach,) * 4).flatten(1)  # 0 outside the image
        values = padded.index_select(1, neighbors.flatten())
        values = values.view(len(grid), len(kernel), 1, -1) * kernel[..., None]
        mask = (values * torch.softmax(values / self.temperature, dim=1)).sum(1)
        return F.pixel_shuffle(mask.view(-1, _FINER**2, *self.shape), _FINER)

    @cached_property
    def _reach(self) -> int:
        """How many grid points away a value can still matter."""
        radius = (0.5 + sqrt(-log(_NEGLIGIBLE) / 2)) * self.width * min(self.shape)
        return max(1, ceil(radius + 0.25))

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Indices of each point's neighbors in the padded grid, (neighbors, points), and `k`,
        (neighbors, pixels per grid point).
        """
        side = torch.arange(-self._reach, self._reach + 1, device="cpu")
        pixels = (torch.arange(_FINER, dtype=torch.float64, device="cpu") + 0.5) / _FINER - 0.5
        squares = (side[:, None] - pixels).square()  # (neighbors, pixels) along one side
        squares = squares[:, None, :, None] + squares[None, :, None, :]
        distance = squares.flatten(2).flatten(0, 1).sqrt() / (self.width * min(self.shape))
        kernel = torch.exp(-2 * (distance - 0.5).clamp_min(0).square())
        near = (kernel >= _NEGLIGIBLE).any(1)
        rows, columns = (torch.arange(count, device="cpu") + self._reach for count in self.shape)
        stride = self.shape[1] + 2 * self._reach
        offsets = (side[:, None] * stride + side).flatten()[near]
        points = rows[:, None] * stride + columns
        return offsets[:, None] + points.flatten(), kernel[near]
