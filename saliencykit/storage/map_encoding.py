"""Masks as they are stored: rounded to 8 bits or float16, and as the bytes of a small file."""

import io
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliencykit.core.checks import describe
from saliencykit.core.errors import InputError
from saliencykit.storage.image_formats import opened_image
from saliencykit.storage.typed_json import MAX_PIXELS

Precision: TypeAlias = Literal["uint8", "float16"]
PRECISIONS = ("uint8", "float16")


def packed(mask: Tensor, precision: Precision) -> Tensor:
    """A mask in [0, 1] as it is stored: `uint8`, accurate to 1/510, or `float16`, to 1/4096.

    Args:
        mask: Of any shape.
        precision: `uint8` or `float16`.

    Example:
        >>> packed(torch.tensor([0.0, 0.5, 1.0]), "uint8").tolist()
        [0, 128, 255]
    """
    mask = mask.detach().float().clamp(0, 1).cpu()
    return (mask * 255).round().to(torch.uint8) if precision == "uint8" else mask.half()


def unpacked(stored: Tensor) -> Tensor:
    """The reverse of `packed`, float32 in [0, 1].

    Args:
        stored: uint8 or float16, of any shape.
    """
    return stored.float() / 255 if stored.dtype == torch.uint8 else stored.float()


def encoded(stored: Tensor) -> bytes:
    """A stored mask (h, w) as a file that others read: an 8-bit PNG, or `.npy` of float16.

    Args:
        stored: From `packed`.
    """
    file = io.BytesIO()
    if stored.dtype == torch.uint8:
        Image.fromarray(stored.numpy()).save(file, format="PNG", compress_level=1)
    else:
        np.save(file, stored.numpy())
    return file.getvalue()


def decoded(content: bytes, where: str) -> Tensor:
    """The reverse of `encoded`.

    Args:
        content: Of a PNG or `.npy` file.
        where: For the error.

    Raises:
        InputError: It is damaged.
    """
    if not content.startswith(b"\x93NUMPY"):
        with opened_image(content, where) as image:
            return torch.from_numpy(np.array(image))
    try:
        return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
    except Exception as error:  # numpy raises many
        raise InputError(f"{where} is damaged: {error}.") from error


def checked(stored: Tensor, where: str) -> Tensor:
    """A stored mask of a file that somebody else may have written.

    Args:
        stored: Of any type and shape.
        where: For the error.

    Raises:
        InputError: It is no such mask, or holds NaN or values outside of [0, 1].
    """
    fits = stored.ndim == 2 and 0 < stored.numel() <= MAX_PIXELS
    if not fits or stored.dtype not in (torch.uint8, torch.float16):
        raise InputError(
            f"{where} is damaged: it is {describe(stored)}; expected uint8 or float16 of shape "
            "(h, w)."
        )
    if stored.dtype == torch.float16 and not bool(((stored >= 0) & (stored <= 1)).all()):
        raise InputError(f"{where} is damaged: it holds NaN or values outside of [0, 1].")
    return stored
