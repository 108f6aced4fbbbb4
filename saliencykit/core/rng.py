"""Random numbers per image: the only place where they are drawn.

The numbers of a row depend on the generator and on that row's image, never on its place in the
batch, the batch size or chunking: with the same seed, an image gets the same mask alone and in a
batch. Each call takes one number from the generator, mixes it with a key of each image's values,
and draws row by row. Numbers are drawn on the CPU and then moved, so they are the same for every
device.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Generator, Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.types import Images

# 2**64 / golden ratio, odd, as a signed 64-bit number: Knuth's multiplicative hashing
_ODD = -7046029254386353131
_CHUNK = 2**14  # values of an image that are processed together: they stay in the cache
_AS_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def image_keys(images: Images) -> Tensor:
    """A 64-bit key of each image's values, (B,) int64 on the CPU: equal images have equal keys.

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
    chunks = zip(torch.split(integers, _CHUNK, 1), torch.split(position, _CHUNK), strict=True)
    for values, factors in chunks:
        bits = values.to(torch.int64)
        mixed = (bits ^ (bits >> 15)) * factors
        keys += (mixed ^ (mixed >> 29)).sum(1)
    return keys.cpu()


@contextmanager
def isolated(*devices: torch.device, seeded: bool = False) -> Iterator[None]:
    """Inside, torch's global random state may be used and is restored after, tensors can have
    gradients even where the caller is in inference mode, and a caller's autocast does not act.

    Where other threads run, what is not seeded restores nothing: they may have drawn the numbers
    meanwhile, and a training thread must not draw the same ones again.

    Args:
        *devices: The devices that compute; the CPU's state is always restored.
        seeded: Does what runs inside set the seed?

    Raises:
        InputError: A transform of torch.func or a fake tensor mode is active.
    """
    _refuse_transforms()
    cuda = {device for device in devices if device.type == "cuda"}
    states = [(torch.set_rng_state, torch.get_rng_state())] + [
        (partial(torch.cuda.set_rng_state, device=device), torch.cuda.get_rng_state(device))
        for device in cuda
    ]
    try:
        with torch.inference_mode(False), ExitStack() as settings:
            for kind in {"cpu", *(device.type for device in devices)}:
                if torch.is_autocast_enabled(kind):
                    settings.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        if seeded or threading.active_count() == 1:
            for restore, state in states:
                restore(state)


def _refuse_transforms() -> None:
    """Within them tensors have no memory, and setting the random state writes over what is not
    its own.
    """
    try:
        with torch.inference_mode(False):
            torch.empty(0, dtype=torch.float32, device="cpu").requires_grad_()
            torch.get_rng_state()[:1].tolist()
    except Exception as error:  # of several classes
        raise InputError(
            "nothing can be explained inside of a transform of torch.func or of a FakeTensorMode, "
            "where tensors have no values; call it outside, with plain tensors."
        ) from error


def fork(generator: Generator) -> Generator:
    """A new generator that depends on another one.

    Args:
        generator: Advances by exactly one number.

    Example:
        >>> one, other = (fork(torch.Generator().manual_seed(0)) for _ in range(2))
        >>> one.initial_seed() == other.initial_seed()
        True
    """
    return Generator().manual_seed(_one_number(generator))


def seed(generator: Generator) -> int:
    """A seed from which each image of a batch starts on its own, so that the others make no
    difference to it.

    Args:
        generator: Advances by exactly one number.
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
    """Uniform numbers in [low, high), (B, *shape), one row per image, with dtype and device of
    `images`.

    Args:
        images: (B, C, H, W); each row depends on the values of its image.
        shape: The shape of one row.
        generator: Advances by one number, whatever B is.
        low: The lower bound.
        high: The upper bound, excluded.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> uniform(torch.zeros(2, 3, 4, 4), (7,), generator=g).shape
        torch.Size([2, 7])
    """
    return _rows(images, torch.rand, shape, generator) * (high - low) + low


def normal(
    images: Images, shape: Sequence[int], *, generator: Generator, std: float = 1.0
) -> Tensor:
    """Normal numbers with mean 0, (B, *shape), one row per image, with dtype and device of
    `images`.

    Args:
        images: (B, C, H, W); each row depends on the values of its image.
        shape: The shape of one row.
        generator: Advances by one number, whatever B is.
        std: The standard deviation, >= 0.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> normal(torch.zeros(2, 3, 4, 4), (7,), generator=g, std=0.0).abs().max().item()
        0.0
    """
    return _rows(images, torch.randn, shape, generator) * std


def _rows(
    images: Images, draw: Callable[..., Tensor], shape: Sequence[int], generator: Generator
) -> Tensor:
    base, rows = _one_number(generator), []
    for key in image_keys(images):
        own = Generator().manual_seed((base ^ int(key)) & (2**63 - 1))
        rows.append(draw(*shape, generator=own, dtype=torch.float32, device="cpu"))
    return torch.stack(rows).to(dtype=images.dtype, device=images.device)


def _one_number(generator: Generator) -> int:
    return int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
