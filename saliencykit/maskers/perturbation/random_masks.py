"""Random masks: grids of kept and dropped cells, enlarged at a random shift; each on its own, or in
opposite pairs.
"""

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
# masks drawn at once, 52 kB; fixed, so that the draws do not depend on the box's micro-batch
_BLOCK = 256


@final
@dataclass(frozen=True)
class Factors:
    """Masks as products, `left @ right`, which are made when they are needed and never kept.

    Attributes:
        left: (n, H, cells).
        right: (n, cells, W).
    """

    left: Tensor
    right: Tensor

    def __len__(self) -> int:
        """How many masks."""
        return len(self.left)

    def __getitem__(self, part: slice) -> "Factors":
        """Some of them."""
        return Factors(self.left[part], self.right[part])

    def masks(self) -> Tensor:
        """(n, 1, H, W), in [0, 1] but for rounding."""
        return (self.left @ self.right)[:, None]


def draw_masks(
    image: Images,
    samples: int,
    cells: int,
    keep: float,
    sampling: Sampling,
    *,
    generator: Generator,
) -> Iterator[Factors]:
    """`samples` masks for one picture (1, C, H, W), in blocks.

    With `antithetic`, each second mask is one less the mask before it (where `keep` is a half; else
    the numbers behind the cells are mirrored), so that the even part of the answer adds no noise to
    what is linear in the mask.

    References:
        Masks: Petsiuk et al. 2018, "RISE", section 3.2. Antithetic pairs: Owen, "Monte Carlo
            theory, methods and examples", chapter
        8.2; for attribution Mitchell et al. 2022, "Sampling permutations for Shapley value
        estimation", section 3.
    """
    height, width = image.shape[2:]
    for numbers in _numbers(image, samples, cells**2 + 2, sampling, generator):
        grids = (numbers[:, :-2] < keep).to(numbers.dtype).view(-1, cells, cells)
        left = enlargements(height, cells, numbers[:, -2]) @ grids
        yield Factors(left, enlargements(width, cells, numbers[:, -1]).transpose(1, 2))


def enlargements(side: int, cells: int, shifts: Tensor) -> Tensor:
    """The matrices that enlarge `cells` values to `side` pixels at each of the shifts in [0, 1),
    (n, side, cells).

    As published: bilinear to (cells + 1) * c pixels, where c is the size of a cell, and cut out at
    an offset of 0 to c.
    """
    size = ceil(side / cells)
    identity = torch.eye(cells, dtype=shifts.dtype, device=shifts.device)
    matrix = F.interpolate(
        identity[None], size=(cells + 1) * size, mode="linear", align_corners=False
    )[0].T
    offsets = (shifts * (size + 1)).long().clamp_max(size)
    return matrix[offsets[:, None] + torch.arange(side, device=shifts.device)]


def similarity(side: int, cells: int) -> Tensor:
    """How alike two pixels of a side are under random masks: `E[S S']` over the shifts, (side,
    side) float64 on the CPU.

    Where cells are kept with chance p, the covariance of pixels (y, x) and (v, u) is p (1 - p)
    times the likeness of y and v times that of x and u: cells are independent, the two shifts are,
    and the mean mask is p at every shift.
    """
    count = ceil(side / cells) + 1
    matrices = enlargements(side, cells, (torch.arange(count, dtype=torch.float64) + 0.5) / count)
    return (matrices @ matrices.transpose(1, 2)).mean(0)


def _numbers(
    image: Images, samples: int, count: int, sampling: Sampling, generator: Generator
) -> Iterator[Tensor]:
    """Blocks of uniform numbers, (n, count)."""
    size = _BLOCK if sampling == "random" else _BLOCK // 2
    for first in range(0, samples, _BLOCK):
        numbers = rng.uniform(image, (size, count), generator=generator)[0]
        # sums of a thousand masks need the digits
        numbers = numbers.float() if numbers.dtype.itemsize < 4 else numbers
        if sampling == "antithetic":
            mirrored = numbers.clone()
            # the shifts stay, so that a pair's masks add up to one
            mirrored[:, :-2] = 1 - numbers[:, :-2]
            numbers = torch.stack([numbers, mirrored], 1).flatten(0, 1)
        yield numbers[: samples - first]
