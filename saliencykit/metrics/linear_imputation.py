"""Linear imputation of removed pixels, the fill of ROAD, for all images of a batch together; for
evaluation only.

Each removed pixel is the weighted mean of its eight neighbors, removed ones included. These
equations are solved by conjugate gradients, preconditioned by multigrid: the weights 1/6 and 1/12
are a binomial blur without its center, so a damped Jacobi step replaces removed pixels by their
blur; the error that remains after a few steps is smooth, and is corrected on grids of half the
size. Multigrid alone is not enough: where masks are scattered or nearly everything is removed, the
coarse grids differ so much from the fine one that it diverges. Conjugate gradients cannot. It runs
on the images' device.

A map is stored with one row and column of zeros around it (and one more where a side is odd), so
that its eight neighbors are the same memory, shifted: a blur is four additions of long contiguous
vectors, which is fast.

Nothing that trains or optimizes a mask may use this, so that no mask is made for it;
`tests/benchmarks/test_held_out.py` fails where something does.
"""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Images

_DIRECT = 64  # grids of at most this many pixels are solved directly
_GUESS_STEPS = 2  # Jacobi steps on each grid for the initial guess
_SMOOTHING_STEPS = 2  # Jacobi steps after each correction from a coarser grid
# stop where a step changes an image by less than this on average; each leaves about a third of the
# error
_TOLERANCE = 1e-3
_MAX_STEPS = 12  # of conjugate gradients


def impute(images: Images, kept: Tensor) -> Images:
    """Replace each removed pixel by the weighted mean of its neighbors, removed ones included; an
    image without a kept pixel by its mean color.

    Within 0.001 of the exact solution on average over the pixels of an image, for pixels in [0, 1];
    the noise that ROAD adds is 0.01. Images of at most 64 pixels are solved exactly. The result
    does not depend on the rest of the batch.

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
    """`impute` for many batches of one shape: the memory for its grids is allocated once.

    Args:
        like: A batch of images, of which only shape, dtype and device matter.
    """

    def __init__(self, like: Images) -> None:
        self.shape = like.shape
        like = like.new_empty(0, dtype=torch.promote_types(like.dtype, torch.float32))
        batch, channels, height, width = self.shape
        self._grids = [_Grid(like, batch, channels, height, width)]
        while height * width > _DIRECT:
            height, width = (height + 1) // 2, (width + 1) // 2
            self._grids.append(_Grid(like, batch, channels, height, width))
        self._solution, self._residual, self._direction, self._product = (
            self._grids[0].buffer(batch, channels) for _ in range(4)
        )

    def __call__(self, images: Images, kept: Tensor) -> Images:
        """See `impute`."""
        finest = self._grids[0]
        known = kept.to(finest.spread.dtype)
        self._guess(images * known, known)
        if len(self._grids) > 1:
            self._improve()
        imputed = torch.where(kept, images, finest.inside(self._solution).to(images.dtype))
        empty = ~kept.flatten(1).any(1)
        if bool(empty.any()):  # rounding errors would grow
            imputed[empty] = images[empty].mean((2, 3), keepdim=True).expand_as(images[empty])
        return imputed

    def _guess(self, values: Tensor, known: Tensor) -> None:
        """Initial guess: means of the known pixels on ever coarser grids; the coarsest grid is
        solved directly, and fills the unknown pixels of the finer ones.
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
            for _ in range(_GUESS_STEPS):
                grid.step(grid.b, grid.u)
        self._solution.copy_(first.u)

    def _improve(self) -> None:
        """Conjugate gradients in the inner product weighted by `sums`, which makes the equations
        symmetric.
        """
        grid, solution, residual = self._grids[0], self._solution, self._residual
        direction, product = self._direction, self._product
        grid.blur(solution, grid.one)
        torch.mul(grid.spread, grid.one, out=residual).addcmul_(grid.free, solution, value=-1)
        active = torch.ones_like(residual[:, :1, :1, :1])  # images that have not converged
        curvature: Tensor | None = None
        for _ in range(_MAX_STEPS):
            self._precondition(0, residual)
            if curvature is None:
                direction.copy_(grid.u)
            else:  # flexible: the preconditioner is not quite symmetric
                torch.mul(grid.sums, grid.u, out=grid.e)
                direction.mul_(-grid.dot(grid.e, product) / curvature).add_(grid.u)
            grid.blur(direction, grid.one)
            torch.addcmul(direction, grid.spread, grid.one, value=-1, out=product)
            torch.mul(grid.sums, direction, out=grid.e)
            tiny = torch.finfo(direction.dtype).tiny
            curvature = grid.dot(grid.e, product).clamp_min(tiny)
            length = grid.dot(grid.e, residual) / curvature * active
            solution.addcmul_(length, direction)
            residual.addcmul_(length, product, value=-1)
            change = torch.mul(length, direction, out=grid.e).abs_().sum((1, 2, 3), keepdim=True)
            active = active * (change / self.shape[1:].numel() > _TOLERANCE)
            if not bool(active.any()):
                return

    def _precondition(self, level: int, b: Tensor) -> None:
        """One V-cycle from zero for `u - spread * blur(u) = b`, into the grid's `u`: one Jacobi
        step before the coarser grid, and two after it.
        """
        grid, coarse = self._grids[level], self._grids[level + 1]
        grid.blur(b, grid.one)
        # the residual after the first step, u = b
        torch.mul(grid.spread, grid.one, out=grid.e).mul_(grid.sums)
        residual = coarse.shrunk(grid.e)
        if level + 2 == len(self._grids):
            coarse.inside(coarse.u).copy_(coarse.solved(residual))
        else:
            torch.mul(residual, coarse.inside(coarse.spread), out=coarse.inside(coarse.b))
            self._precondition(level + 1, coarse.b)
        grid.enlarge(coarse, grid.e)
        grid.step(b, grid.e)
        for _ in range(_SMOOTHING_STEPS):
            grid.step(b, grid.u)


class _Grid:
    """One grid, and the buffers for the computations on it.

    Attributes:
        sums: (1, 1, h, w): sixteen times the sum of the weights of the neighbors that exist, the
            center included; 0 in the margin.
        over: Its reciprocal.
        known: (B, 1, h, w): 1 where the pixel is known; 0 in the margin.
        free: 1 where it is unknown; 0 in the margin.
        spread: `free * over`, the factor of the blur.
    """

    def __init__(self, like: Tensor, batch: int, channels: int, height: int, width: int) -> None:
        self.size = (height, width)
        self.like = like
        self.u, self.b, self.e, self.one, self.two = (
            self.buffer(batch, channels) for _ in range(5)
        )
        self.known, self.free, self.spread = (self.buffer(batch, 1) for _ in range(3))
        exists = self.inside(self.buffer(1, 1)).fill_(1)
        self.sums = F.pad(F.conv2d(exists, _binomial(like)[None, None], padding=1), self._margins())
        self.over = self.sums.clamp_min(1).reciprocal() * (self.sums > 0)
        self.inverse = like  # of the coarsest grid's equations

    def _margins(self) -> tuple[int, int, int, int]:
        height, width = self.size
        return 1, 1 + width % 2, 1, 1 + height % 2

    def buffer(self, batch: int, channels: int) -> Tensor:
        height, width = self.size
        return self.like.new_zeros(batch, channels, height + height % 2 + 2, width + width % 2 + 2)

    def inside(self, maps: Tensor) -> Tensor:
        return maps[:, :, 1 : self.size[0] + 1, 1 : self.size[1] + 1]

    def begin(self, values: Tensor, known: Tensor) -> None:
        """Set the known pixels, and their values in `b`."""
        self.inside(self.b).copy_(values)
        self.inside(self.known).copy_(known)
        torch.sub(1, known, out=self.inside(self.free))
        torch.mul(self.free, self.over, out=self.spread)

    def blur(self, maps: Tensor, out: Tensor) -> None:
        """Weights 1 2 1 in both directions. The margins of `out` are undefined, its ends stay 0."""
        width, x, rows, both = maps.shape[3], maps.view(-1), self.two.view(-1), out.view(-1)
        torch.add(x[: -2 * width], x[2 * width :], out=rows[width:-width]).add_(
            x[width:-width], alpha=2
        )
        torch.add(rows[:-2], rows[2:], out=both[1:-1]).add_(rows[1:-1], alpha=2)

    def step(self, b: Tensor, maps: Tensor) -> None:
        """A damped Jacobi step from `maps`, into `u`."""
        self.blur(maps, self.one)
        out = self.u.view(*self.u.shape[:2], -1)
        torch.addcmul(b.flatten(2), self.spread.flatten(2), self.one.flatten(2), out=out)

    def dot(self, one: Tensor, other: Tensor) -> Tensor:
        """(B, 1, 1, 1)"""
        return torch.mul(one, other, out=self.one).sum((1, 2, 3), keepdim=True)

    def shrunk(self, fine: Tensor) -> Tensor:
        """Sums over blocks of 2 x 2 pixels of the finer grid."""
        height, width = self.size
        both = fine[:, :, 1 : 2 * height + 1, 1 : 2 * width + 1]
        rows = both[:, :, 0::2] + both[:, :, 1::2]
        return rows[..., 0::2] + rows[..., 1::2]

    def enlarge(self, coarse: "_Grid", out: Tensor) -> None:
        """Each pixel of the coarser grid four times, which a blur makes bilinear."""
        small, (height, width) = coarse.inside(coarse.u), coarse.size
        rows = torch.stack([small, small], -1).flatten(-2)
        out[:, :, 1 : 2 * height : 2, 1 : 2 * width + 1] = rows
        out[:, :, 2 : 2 * height + 1 : 2, 1 : 2 * width + 1] = rows
        if self.size != (2 * height, 2 * width):
            out[:, :, self.size[0] + 1 :] = 0
            out[:, :, :, self.size[1] + 1 :] = 0

    def invert(self) -> None:
        """Compute the inverse of the equations, (B, hw, hw), 0 at known pixels."""
        height, width = self.size
        links = torch.kron(_chain(height, self.like), _chain(width, self.like))
        free = self.inside(self.free).flatten(1)
        both = free[:, :, None] * free[:, None, :]
        singular = free.amin(1, keepdim=True)  # no known pixel: any solution will do
        system = (torch.diag(links.sum(1)) - links) * both + torch.diag_embed(1 - free + singular)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(system)) * both

    def solved(self, residual: Tensor) -> Tensor:
        return (residual.flatten(2) @ self.inverse).view_as(residual)


def _chain(side: int, like: Tensor) -> Tensor:
    ones = like.new_ones(side)
    return torch.diag(2 * ones) + torch.diag(ones[1:], 1) + torch.diag(ones[1:], -1)


def _binomial(like: Tensor) -> Tensor:
    weights = like.new_tensor([1, 2, 1])
    return weights[:, None] * weights
