"""Random masks of RISE: grids of kept and dropped cells, upsampled at a random shift."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.types import Images

Sampling: TypeAlias = Literal["antithetic", "random"]
# masks drawn at once, 52 kB; fixed, so that the draws do not depend on the batch size
_BLOCK = 256


@final
@dataclass(frozen=True)
class FactoredMasks:
    """Masks as matrix products `left @ right`, which are computed when needed and never stored.

    Attributes:
        left: (n, H, grid_size).
        right: (n, grid_size, W).
    """

    left: Tensor
    right: Tensor

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.left)

    def __getitem__(self, part: slice) -> "FactoredMasks":
        """Some of the masks."""
        return FactoredMasks(self.left[part], self.right[part])

    def masks(self, part: slice = slice(None)) -> Tensor:
        """The masks, or some of them, (n, 1, H, W), in [0, 1] up to rounding."""
        return (self.left[part] @ self.right[part])[:, None]


def draw_masks(
    image: Images,
    samples: int,
    grid_size: int,
    keep_prob: float,
    sampling: Sampling,
    *,
    generator: Generator,
) -> Iterator[FactoredMasks]:
    """Random masks for one image, in blocks.

    In antithetic pairs the second mask is one minus the first (for `keep_prob` 0.5; else the
    uniform numbers behind the cells are mirrored), so that the even part of the response adds no
    noise to what is linear in the mask.

    Args:
        image: (1, C, H, W).
        samples: Number of masks.
        grid_size: Cells per side.
        keep_prob: Probability that a cell is kept, in (0, 1).
        sampling: `antithetic` pairs, or independent `random` masks.
        generator: Source of the random numbers.

    References:
        Masks: Petsiuk et al. 2018, "RISE", section 3.2. Antithetic pairs: Owen, "Monte Carlo
        theory, methods and examples", chapter 8.2; for attribution Mitchell et al. 2022, "Sampling
        permutations for Shapley value estimation", section 3.
    """
    height, width = image.shape[2:]
    for numbers in _uniform_blocks(image, samples, grid_size**2 + 2, sampling, generator):
        kept = (numbers[:, :-2] < keep_prob).to(numbers.dtype).view(-1, grid_size, grid_size)
        left = upsampling_matrices(height, grid_size, numbers[:, -2]) @ kept
        right = upsampling_matrices(width, grid_size, numbers[:, -1]).transpose(1, 2)
        yield FactoredMasks(left, right)


def upsampling_matrices(side: int, grid_size: int, shifts: Tensor) -> Tensor:
    """Matrices that upsample `grid_size` values to `side` pixels, (n, side, grid_size).

    As published: bilinear to (grid_size + 1) * c pixels, where c is the size of a cell, then
    cropped at an offset of 0 to c.

    Args:
        side: Pixels.
        grid_size: Cells.
        shifts: (n,) in [0, 1), which become the offsets.
    """
    cell = ceil(side / grid_size)
    identity = torch.eye(grid_size, dtype=shifts.dtype, device=shifts.device)[None]
    size = (grid_size + 1) * cell
    matrix = F.interpolate(identity, size=size, mode="linear", align_corners=False)[0].T
    offsets = (shifts * (cell + 1)).long().clamp_max(cell)
    return matrix[offsets[:, None] + torch.arange(side, device=shifts.device)]


def side_covariance(side: int, grid_size: int) -> Tensor:
    """`E[S S']` over the shifts of the upsampling matrices S, (side, side) float64 on the CPU.

    With cells kept with probability p, the covariance of the mask at (y, x) and (v, u) is
    p (1 - p) times the entry (y, v) for the height times the entry (x, u) for the width: cells and
    shifts are independent, and the mean mask is p at every shift.
    """
    count = ceil(side / grid_size) + 1
    shifts = (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) / count
    matrices = upsampling_matrices(side, grid_size, shifts)
    return (matrices @ matrices.transpose(1, 2)).mean(0)


def _uniform_blocks(
    image: Images, samples: int, columns: int, sampling: Sampling, generator: Generator
) -> Iterator[Tensor]:
    """Blocks of uniform numbers, (n, columns)."""
    rows = _BLOCK if sampling == "random" else _BLOCK // 2
    for first in range(0, samples, _BLOCK):
        numbers = rng.uniform(image, (rows, columns), generator=generator)[0]
        # sums of a thousand masks need the digits
        numbers = numbers.float() if numbers.dtype.itemsize < 4 else numbers
        if sampling == "antithetic":
            # without the shifts, so that a pair of masks adds up to one
            mirrored = torch.cat([1 - numbers[:, :-2], numbers[:, -2:]], 1)
            numbers = torch.stack([numbers, mirrored], 1).flatten(0, 1)
        yield numbers[: samples - first]
