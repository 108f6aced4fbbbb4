"""Hypothesis strategies for the tensors of the library: small, of odd sizes too, float64."""

import torch
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.objective import Trial
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.testing.contracts.case import seeded

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays
except ImportError:
    raise InputError(
        "saliencykit.testing.strategies needs hypothesis; pip install 'saliencykit[testing]'."
    ) from None


def sizes(least: int = 4, most: int = 16) -> st.SearchStrategy[tuple[int, int]]:
    """Height and width in pixels.

    Args:
        least: The shortest side.
        most: The longest side.

    Example:
        >>> from hypothesis import find
        >>> find(sizes(), lambda size: size[0] != size[1])
        (4, 5)
    """
    side = st.integers(least, most)
    return st.tuples(side, side)


@st.composite
def images(
    draw: st.DrawFn,
    *,
    batch: int | None = None,
    channels: int = 3,
    size: tuple[int, int] | None = None,
    most: int = 4,
) -> Images:
    """Images in [0, 1], (B, C, H, W): noise, one value, or mostly one value.

    Args:
        draw: Supplied by hypothesis.
        batch: B; None: from 1 to `most`.
        channels: C.
        size: Height and width; None: each from 4 to 16.
        most: The largest batch to draw.
    """
    count = draw(st.integers(1, most)) if batch is None else batch
    return draw(_maps((count, channels, *(draw(sizes()) if size is None else size))))


@st.composite
def masks(
    draw: st.DrawFn, *, batch: int | None = None, size: tuple[int, int] | None = None, most: int = 4
) -> Mask:
    """Masks in [0, 1], (B, 1, H, W): gray, binary, constant, all 0 and all 1.

    Args:
        draw: Supplied by hypothesis.
        batch: B; None: from 1 to `most`.
        size: Height and width; None: each from 4 to 16.
        most: The largest batch to draw.
    """
    gray = draw(images(batch=batch, channels=1, size=size, most=most))
    kind = draw(st.sampled_from(["gray", "binary", "whole", "empty"]))
    if kind == "binary":
        return (gray > gray.mean()).to(gray.dtype)
    return gray if kind == "gray" else torch.full_like(gray, 1.0 if kind == "whole" else 0.0)


def labels(batch: int, num_classes: int = 4) -> st.SearchStrategy[Labels]:
    """Labels (B,) int64 in [0, K).

    Args:
        batch: B.
        num_classes: K.
    """
    return st.lists(st.integers(0, num_classes - 1), min_size=batch, max_size=batch).map(
        torch.tensor
    )


@st.composite
def trials(draw: st.DrawFn, *, num_classes: int = 4, reach: float = 50.0, most: int = 4) -> Trial:
    """Trials with consistent parts; logits are arbitrary in [-reach, reach], some rows are fakes.

    Args:
        draw: Supplied by hypothesis.
        num_classes: K.
        reach: The largest logit.
        most: The largest batch to draw.
    """
    batch = draw(images(most=most))
    count, size = len(batch), (batch.shape[2], batch.shape[3])
    kept, dropped = ((2 * draw(_maps((count, num_classes))) - 1) * reach for _ in range(2))
    real = torch.tensor(
        draw(st.lists(st.booleans(), min_size=count, max_size=count)),
        dtype=torch.bool,
        device="cpu",
    )
    mask = draw(masks(batch=count, size=size))
    return Trial(batch, draw(labels(count, num_classes)), real, mask, kept, dropped)


def _maps(shape: tuple[int, ...]) -> st.SearchStrategy[Tensor]:
    noise = st.integers(0, 2**31).map(
        lambda seed: torch.rand(shape, dtype=torch.float64, generator=seeded(seed), device="cpu")
    )
    flat = st.floats(0, 1).map(
        lambda value: torch.full(shape, value, dtype=torch.float64, device="cpu")
    )
    sparse = arrays.arrays("float64", shape, elements=st.floats(0, 1), fill=st.floats(0, 1)).map(
        torch.from_numpy
    )
    return st.one_of(noise, flat, sparse)
