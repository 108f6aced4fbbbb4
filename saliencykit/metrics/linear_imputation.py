"""Linear imputation of removed pixels, for all pictures of a batch at once: the fill of ROAD, for
judging only.

Each removed pixel is the weighted mean of its eight neighbours, removed ones included. Those
equations are solved by conjugate gradients, preconditioned by multigrid: the weights 1/6 and 1/12
make a binomial blur less its middle, so that a damped Jacobi step replaces what is removed by its
blur; what is still wrong after a few steps is smooth, and is put right on grids of half the size.
Multigrid alone does not do: where masks are scattered or nearly everything is removed, the coarse
grids are so unlike the fine one that it diverges. Conjugate gradients cannot get worse. It runs
where the pictures are.

A map lies in memory with one row and column of zeros around it (and one more where a side is odd),
so that its eight neighbours are the same memory, shifted: a blur is four additions of long
contiguous vectors, which is what a processor does best.

Nothing that trains or optimises a mask may use this, so that it stays a fill that no mask was made
for; `tests/benchmarks/test_unseen.py` reads the source and fails where something does.
"""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Images

_DIRECT = 64  # a grid of so many pixels is solved at once
_FIRST = 2  # steps on each grid on the way to the first guess
_AFTER = 2  # steps after each correction from a coarser grid
# it ends where a step changes a picture less than this, on average; each leaves about a third of
# the error
_CLOSE = 1e-3
_MOST = 12  # steps of conjugate gradients


def impute(images: Images, kept: Tensor) -> Images:
    """Each removed pixel the weighted mean of its neighbours, removed ones included; a picture
    without a kept one its mean colour.

    Within 0.001 of the exact solution on average over the picture's pixels, for pixels in [0, 1];
    the noise that ROAD adds is 0.01. Pictures of at most 64 pixels are solved exactly. A picture's
    answer is its own, whatever else is in the batch.

    Args:
        images: (B, C, H, W).
        kept: (B, 1, H, W) bool.

    Example:
        >>> row = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(1, 1, 1, 4)
        >>> inside = torch.tensor([True, False, False, True]).expand(1, 1, 1, 4)
        >>> [round(value, 3) for value in impute(row, inside).flatten().tolist()]
        [0.0, 0.333, 0.667, 1.0]

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
        (ROAD), section 5, noisy linear imputation; Briggs, Henson & McCormick 2000, "A Multigrid
        Tutorial", chapter 3; Tatebe 1993, "The multigrid preconditioned conjugate gradient method";
        Notay 2000, "Flexible conjugate gradients".
    """
    return Imputer(images)(images, kept)


@final
class Imputer:
    """`impute` for many batches of one shape: the memory for its grids is taken once.

    Args:
        like: A batch of pictures, of which only shape, type and device matter.
    """

    def __init__(self, like: Images) -> None:
        self.shape = like.shape
        like = like.new_empty(0, dtype=torch.promote_types(like.dtype, torch.float32))
        batch, channels, height, width = self.shape
        self._grids = [_Grid(like, batch, channels, height, width)]
        while height * width > _DIRECT:
            height, width = (height + 1) // 2, (width + 1) // 2
            self._grids.append(_Grid(like, batch, channels, height, width))
        self._answer, self._rest, self._way, self._pull = (
            self._grids[0].room(batch, channels) for _ in range(4)
        )

    def __call__(self, images: Images, kept: Tensor) -> Images:
        """See `impute`."""
        finest = self._grids[0]
        known = kept.to(finest.spread.dtype)
        self._guess(images * known, known)
        if len(self._grids) > 1:
            self._improve()
        found = torch.where(kept, images, finest.inside(self._answer).to(images.dtype))
        nothing = ~kept.flatten(1).any(1)
        if bool(nothing.any()):  # rounding would drift away
            found[nothing] = images[nothing].mean((2, 3), keepdim=True).expand_as(images[nothing])
        return found

    def _guess(self, values: Tensor, known: Tensor) -> None:
        """Means of what is known, on ever coarser grids; where a block knows nothing, the coarsest
        is solved and handed down.
        """
        first, last = self._grids[0], self._grids[-1]
        first.begin(values, known)
        for grid, fine in zip(self._grids[1:], self._grids, strict=False):
            count = grid.shrunk(fine.known)
            grid.begin(grid.shrunk(fine.b) / count.clamp_min(1), (count > 0).to(count.dtype))
        last.invert()
        last.blur(last.b, last.one)
        last.inside(last.u).copy_(last.inside(last.b) + last.solved(last.inside(last.one)))
        for grid, coarse in zip(self._grids[-2::-1], self._grids[:0:-1], strict=True):
            grid.enlarge(coarse, grid.e)
            grid.step(grid.b, grid.e)
            for _ in range(_FIRST):
                grid.step(grid.b, grid.u)
        self._answer.copy_(first.u)

    def _improve(self) -> None:
        """Conjugate gradients in the scalar product that belongs to the weights' sums, which makes
        the equations symmetric.
        """
        grid, answer, rest, way, pull = (
            self._grids[0],
            self._answer,
            self._rest,
            self._way,
            self._pull,
        )
        grid.blur(answer, grid.one)
        torch.mul(grid.spread, grid.one, out=rest).addcmul_(grid.free, answer, value=-1)
        open_ = torch.ones_like(rest[:, :1, :1, :1])
        steep: Tensor | None = None
        for _ in range(_MOST):
            self._correct(0, rest)
            if steep is None:
                way.copy_(grid.u)
            else:  # flexible: the preconditioner is not quite symmetric
                torch.mul(grid.sums, grid.u, out=grid.e)
                way.mul_(-grid.dot(grid.e, pull) / steep).add_(grid.u)
            grid.blur(way, grid.one)
            torch.addcmul(way, grid.spread, grid.one, value=-1, out=pull)
            torch.mul(grid.sums, way, out=grid.e)
            steep = grid.dot(grid.e, pull).clamp_min(torch.finfo(way.dtype).tiny)
            far = grid.dot(grid.e, rest) / steep * open_
            answer.addcmul_(far, way)
            rest.addcmul_(far, pull, value=-1)
            change = (
                torch.mul(far, way, out=grid.e).abs_().sum((1, 2, 3), keepdim=True)
            ) / self.shape[1:].numel()
            open_ = open_ * (change > _CLOSE)
            if not bool(open_.any()):
                return

    def _correct(self, level: int, b: Tensor) -> None:
        """One V-cycle from zero, for `u - spread * blur(u) = b`, into the grid's `u`: a step
        before, and two after the coarser.
        """
        grid, coarse = self._grids[level], self._grids[level + 1]
        grid.blur(b, grid.one)
        # what the first step, u = b, leaves wrong
        torch.mul(grid.spread, grid.one, out=grid.e).mul_(grid.sums)
        rest = coarse.shrunk(grid.e)
        if level + 2 == len(self._grids):
            coarse.inside(coarse.u).copy_(coarse.solved(rest))
        else:
            torch.mul(rest, coarse.inside(coarse.spread), out=coarse.inside(coarse.b))
            self._correct(level + 1, coarse.b)
        grid.enlarge(coarse, grid.e)
        grid.step(b, grid.e)
        for _ in range(_AFTER):
            grid.step(b, grid.u)


class _Grid:
    """One grid, and the room for what is computed on it.

    Attributes:
        sums: (1, 1, h, w): sixteen times the sum of the weights of the neighbours that exist, their
            middle's included; 0 outside.
        over: One over that.
        known: (B, 1, h, w): 1 where the answer is given; 0 outside.
        free: 1 where it is wanted; 0 outside.
        spread: `free * over`: what the blur counts for there.
    """

    def __init__(self, like: Tensor, batch: int, channels: int, height: int, width: int) -> None:
        self.size = (height, width)
        self.like = like
        self.u, self.b, self.e, self.one, self.two = (self.room(batch, channels) for _ in range(5))
        self.known, self.free, self.spread = (self.room(batch, 1) for _ in range(3))
        exists = self.inside(self.room(1, 1)).fill_(1)
        self.sums = F.pad(F.conv2d(exists, _binomial(like)[None, None], padding=1), self._margins())
        self.over = self.sums.clamp_min(1).reciprocal() * (self.sums > 0)
        self.inverse = like  # of the coarsest grid's equations

    def _margins(self) -> tuple[int, int, int, int]:
        height, width = self.size
        return 1, 1 + width % 2, 1, 1 + height % 2

    def room(self, batch: int, channels: int) -> Tensor:
        height, width = self.size
        return self.like.new_zeros(batch, channels, height + height % 2 + 2, width + width % 2 + 2)

    def inside(self, maps: Tensor) -> Tensor:
        return maps[:, :, 1 : self.size[0] + 1, 1 : self.size[1] + 1]

    def begin(self, values: Tensor, known: Tensor) -> None:
        """These are the pixels that are known, and what is known of them; into `b`."""
        self.inside(self.b).copy_(values)
        self.inside(self.known).copy_(known)
        torch.sub(1, known, out=self.inside(self.free))
        torch.mul(self.free, self.over, out=self.spread)

    def blur(self, maps: Tensor, out: Tensor) -> None:
        """Weights 1 2 1 both ways. The margins of `out` are nonsense, the ends stay 0."""
        width, x, rows, both = maps.shape[3], maps.view(-1), self.two.view(-1), out.view(-1)
        torch.add(x[: -2 * width], x[2 * width :], out=rows[width:-width]).add_(
            x[width:-width], alpha=2
        )
        torch.add(rows[:-2], rows[2:], out=both[1:-1]).add_(rows[1:-1], alpha=2)

    def step(self, b: Tensor, maps: Tensor) -> None:
        """A damped Jacobi step from `maps`, into `u`."""
        self.blur(maps, self.one)
        torch.addcmul(
            b.flatten(2),
            self.spread.flatten(2),
            self.one.flatten(2),
            out=self.u.view(*self.u.shape[:2], -1),
        )

    def dot(self, one: Tensor, other: Tensor) -> Tensor:
        """(B, 1, 1, 1)"""
        return torch.mul(one, other, out=self.one).sum((1, 2, 3), keepdim=True)

    def shrunk(self, fine: Tensor) -> Tensor:
        """Sums over blocks of 2 x 2 pixels of the finer grid."""
        height, width = self.size
        rows = (
            fine[:, :, 1 : 2 * height : 2, 1 : 2 * width + 1]
            + fine[:, :, 2 : 2 * height + 1 : 2, 1 : 2 * width + 1]
        )
        return rows[..., 0::2] + rows[..., 1::2]

    def enlarge(self, coarse: "_Grid", out: Tensor) -> None:
        """Each pixel of the coarser grid four times; blurred, that is bilinear."""
        found, (height, width) = coarse.inside(coarse.u), coarse.size
        rows = torch.stack([found, found], -1).flatten(-2)
        out[:, :, 1 : 2 * height : 2, 1 : 2 * width + 1] = rows
        out[:, :, 2 : 2 * height + 1 : 2, 1 : 2 * width + 1] = rows
        if self.size != (2 * height, 2 * width):
            out[:, :, self.size[0] + 1 :] = 0
            out[:, :, :, self.size[1] + 1 :] = 0

    def invert(self) -> None:
        """The inverse of the equations (B, hw, hw), 0 where nothing is wanted."""
        height, width = self.size
        links = torch.kron(_chain(height, self.like), _chain(width, self.like))
        wanted = self.inside(self.free).flatten(1)
        both = wanted[:, :, None] * wanted[:, None, :]
        unsure = wanted.amin(1, keepdim=True)  # nothing at all is known: any answer will do
        system = (torch.diag(links.sum(1)) - links) * both + torch.diag_embed(1 - wanted + unsure)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(system)) * both

    def solved(self, rest: Tensor) -> Tensor:
        return (rest.flatten(2) @ self.inverse).view_as(rest)


def _chain(side: int, like: Tensor) -> Tensor:
    ones = like.new_ones(side)
    return torch.diag(2 * ones) + torch.diag(ones[1:], 1) + torch.diag(ones[1:], -1)


def _binomial(like: Tensor) -> Tensor:
    weights = like.new_tensor([1, 2, 1])
    return weights[:, None] * weights
