"""Impute: the fill of `unseen.Road`, its noise left out, from an iterative solver: five to ten times faster where much is removed.

Multigrid. The weights 1/6 and 1/12 of a pixel's eight neighbours make a binomial blur less its middle, so that a damped Jacobi step
replaces what is removed by its blur; what is still wrong after a few steps is smooth, and is put right on grids of half the size.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.unseen import Road
from saliencykit.core.types import Images

_SMALLEST = 4  # side of the coarsest grid
_COARSE_STEPS = 12  # there: they solve it
_STEPS = 2  # before and after each correction
_CYCLES = 5  # each leaves about half of the error
_EXACT = 0.2  # where less than this is removed, solving the equations costs no more


def impute(images: Images, kept: Tensor) -> Images:
    """Each removed pixel the weighted mean of its neighbours, removed ones included; a picture without a kept one its mean colour.

    Within 0.001 of the exact solution on average (0.003 where only 2 % are kept); the noise that `Road` adds is 0.01.

    Args:
        images: (B, C, H, W).
        kept: (B, 1, H, W) bool.
    """
    return torch.stack([_imputed(image, inside) for image, inside in zip(images, kept, strict=True)])


def _imputed(image: Tensor, kept: Tensor) -> Tensor:
    share = kept.float().mean().item()
    if share == 0 or share > 1 - _EXACT or min(image.shape[1:]) < 2 * _SMALLEST:
        return Road(std=0.0)(image[None], generator=Generator().manual_seed(0), mask=kept[None].to(image))[0]
    known = kept.to(image)
    values, free, inner = [image * known], [1 - known], [1 - known]
    while min(free[-1].shape[1:]) > _SMALLEST:
        weight = _halved(1 - free[-1])
        values.append(_halved(values[-1]) / weight.clamp_min(1e-12) * (weight > 0))
        free.append((weight == 0).to(image))  # a first guess is wanted where nothing in the block is known,
        inner.append(-F.max_pool2d(-inner[-1][None], 2, ceil_mode=True)[0])  # a correction where all of it is unknown
    mean = values[0].sum((1, 2), keepdim=True) / known.sum()
    guess = _smoothed(values[-1] + free[-1] * mean, free[-1], _COARSE_STEPS)
    for value, where in zip(values[-2::-1], free[-2::-1], strict=True):
        guess = _smoothed(value + _enlarged(guess, where) * where, where, 2 * _STEPS)
    for _ in range(_CYCLES):
        guess = _cycle(guess, None, inner)
    return guess * free[0] + values[0]


def _cycle(answer: Tensor, wanted: Tensor | None, inner: list[Tensor]) -> Tensor:
    """One V-cycle: closer to `blur(answer) - answer + wanted = 0` where `inner[0]` is 1."""
    if len(inner) == 1:
        return _smoothed(answer, inner[0], _COARSE_STEPS, wanted)
    answer = _smoothed(answer, inner[0], _STEPS, wanted)
    rest = _blurred(answer).sub_(answer)
    if wanted is not None:
        rest += wanted
    coarse = _halved(rest.mul_(inner[0])).mul_(4)  # a blur of twice the width moves a smooth function four times as far
    correction = _cycle(torch.zeros_like(coarse), coarse, inner[1:])
    answer = _enlarged(correction, answer).mul_(inner[0]).add_(answer)
    return _smoothed(answer, inner[0], _STEPS, wanted)


def _smoothed(answer: Tensor, where: Tensor, steps: int, wanted: Tensor | None = None) -> Tensor:
    for _ in range(steps):
        change = _blurred(answer).sub_(answer)
        if wanted is not None:
            change += wanted
        answer = change.mul_(where).add_(answer)
    return answer


def _blurred(maps: Tensor) -> Tensor:
    """Binomial weights 1 2 1 both ways, over the neighbours that exist."""
    return _binomial(maps).mul_(_share(maps.shape[1], maps.shape[2], maps.dtype))


def _binomial(maps: Tensor) -> Tensor:
    rows = maps * 2
    rows[:, 1:] += maps[:, :-1]
    rows[:, :-1] += maps[:, 1:]
    both = rows * 2
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return both


@cache
def _share(height: int, width: int, dtype: torch.dtype) -> Tensor:
    return 1 / _binomial(torch.ones(1, height, width, dtype=dtype))


def _halved(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps[None], 2, ceil_mode=True, count_include_pad=False)[0]


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps[None], size=like.shape[1:], mode="bilinear", align_corners=False)[0]
