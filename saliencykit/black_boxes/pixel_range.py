"""Pixel range: which raw values are black and white in images of more than 8 bits."""

import copy
from math import isfinite
from typing import Any

import numpy as np
from PIL import Image

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError


def with_pixel_range(black_box: BlackBox, pixel_range: tuple[float, float] | None) -> BlackBox:
    """The same black box, for images whose values lie in a given range.

    Images of 8 bits stay as they are. All others, files of 12 and 16 bits and of floats, arrays and
    raw tensors of any number type, are scaled so that the range becomes [0, 1], whatever the file
    declares; values outside are clipped.

    Args:
        black_box: The classifier; it is not changed.
        pixel_range: The values of black and white, black < white: `(0, 4095)` for 12 bits, `(-1000,
            400)` for a window of a CT. None: as `black_box` has it.

    Raises:
        InputError: The range is no pair of finite numbers, black < white.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> with_pixel_range(PlantedEvidence(), (0, 4095)).pixel_range
        (0.0, 4095.0)
    """
    if pixel_range is None:
        return black_box
    twin = copy.copy(black_box)
    # some are frozen dataclasses
    object.__setattr__(twin, "pixel_range", checked_pixel_range(pixel_range))
    return twin


def checked_pixel_range(pixel_range: tuple[float, float]) -> tuple[float, float]:
    """The range as two floats.

    Raises:
        InputError: It is no pair of finite numbers, black < white.

    Example:
        >>> checked_pixel_range([0, 255])
        (0.0, 255.0)
    """
    try:
        black, white = (float(value) for value in pixel_range)
    except (TypeError, ValueError):
        black, white = 0.0, float("nan")
    if not (isfinite(black) and isfinite(white) and black < white):
        raise InputError(
            f"pixel_range={pixel_range!r}: the values of black and white, black < white; write "
            "pixel_range=(0, 4095) for 12 bits (--pixel-range 0 4095)."
        )
    return black, white


def in_range(
    values: "np.ndarray[Any, np.dtype[Any]]", pixel_range: tuple[float, float]
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Values of any number type, scaled to [0, 1]; what is not finite stays so.

    Example:
        >>> in_range(np.array([-10, 0, 100, 300], np.int16), (0, 200)).tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    black, white = pixel_range
    wide = (values.astype(np.float64) - black) / (white - black)
    return wide.clip(0, 1).astype(np.float32)


def is_deep(image: Image.Image) -> bool:
    """Does a PIL image have more than 8 bits per channel (modes I, F, I;16)?"""
    return image.mode.startswith(("I", "F"))
