"""The only place where random numbers are drawn.

A row's numbers depend on the generator and on that row's own picture, never on its place in the
batch, on the batch's size or on chunking: the same picture with the same seed gets the same mask on
its own and in a batch. To that end every call takes one number from the generator, whatever the
batch, mixes it with a key made of each picture's values, and draws row by row. Numbers are drawn on
the CPU and moved, so that every device sees the same ones.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from saliencykit.core.types import Images

# 2**64 / golden ratio, odd, as a signed 64-bit number: Knuth's multiplicative hashing
_ODD = -7046029254386353131
_CHUNK = 2**14  # values of a picture that are looked at together: they stay in the cache
_AS_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def image_keys(images: Images) -> Tensor:
    """A 64-bit key of each picture's values, (B,) int64 on the CPU: equal pictures have equal keys.

    Args:
        images: (B, C, H, W), any dtype.

    Example:
        >>> keys = image_keys(torch.zeros(2, 3, 4, 4))
        >>> bool(keys[0] == keys[1])
        True
    """
    rows = images.detach().contiguous().flatten(1)
    integers = rows.view(_AS_INTEGER[rows.element_size()])
    position = torch.arange(1, 2 * rows.shape[1], 2, device=rows.device, dtype=torch.int64) * _ODD
    keys = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for some, places in zip(
        torch.split(integers, _CHUNK, 1), torch.split(position, _CHUNK), strict=True
    ):
        bits = some.to(torch.int64)
        mixed = (bits ^ (bits >> 15)) * places
        keys += (mixed ^ (mixed >> 29)).sum(1)
    return keys.cpu()


def fork(generator: Generator) -> Generator:
    """A new generator that depends on another one.

    Args:
        generator: Moves on by exactly one number.

    Example:
        >>> one, other = (fork(torch.Generator().manual_seed(0)) for _ in range(2))
        >>> one.initial_seed() == other.initial_seed()
        True
    """
    return Generator().manual_seed(
        int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    )


def seed(generator: Generator) -> int:
    """A seed for each picture of a batch to start from on its own, so that the others make no
    difference to it.

    Args:
        generator: Moves on by exactly one number.
    """
    return fork(generator).initial_seed()


def uniform(
    images: Images,
    shape: Sequence[int],
    *,
    generator: Generator,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """Uniform numbers in [low, high), (B, *shape), one row per picture, with dtype and device of
    `images`.

    Args:
        images: (B, C, H, W); their values decide what each row gets.
        shape: Of one row.
        generator: Moves on by one number, whatever B is.
        low: The least number.
        high: The bound that is not reached.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> uniform(torch.zeros(2, 3, 4, 4), (7,), generator=g).shape
        torch.Size([2, 7])
    """
    return _rows(images, lambda g: torch.rand(*shape, generator=g), generator) * (high - low) + low


def normal(
    images: Images, shape: Sequence[int], *, generator: Generator, std: float = 1.0
) -> Tensor:
    """Normal numbers with mean 0, (B, *shape), one row per picture, with dtype and device of
    `images`.

    Args:
        images: (B, C, H, W); their values decide what each row gets.
        shape: Of one row.
        generator: Moves on by one number, whatever B is.
        std: The standard deviation, >= 0.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> normal(torch.zeros(2, 3, 4, 4), (7,), generator=g, std=0.0).abs().max().item()
        0.0
    """
    return _rows(images, lambda g: torch.randn(*shape, generator=g), generator) * std


def _rows(images: Images, draw: Callable[[Generator], Tensor], generator: Generator) -> Tensor:
    base = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    seeds = [(base ^ int(key)) & (2**63 - 1) for key in image_keys(images)]
    rows = torch.stack([draw(Generator().manual_seed(seed)) for seed in seeds])
    return rows.to(dtype=images.dtype, device=images.device)
