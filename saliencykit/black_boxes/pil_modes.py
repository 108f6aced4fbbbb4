"""PIL images of any mode, and arrays of any number type, as 8-bit RGB or gray."""

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image

from saliencykit.black_boxes.pixel_range import is_deep
from saliencykit.core.errors import InputError


def eight_bit(image: Image.Image, channels: int = 3) -> Image.Image:
    """The image in mode RGB, or L for one channel.

    Transparent pixels are put on white, palettes are looked up, 16-bit and float images are scaled
    to 8 bits (`image.info["white"]` is white, see `white_level`), CMYK and other modes go through
    PIL's conversion.

    Args:
        image: A PIL image of any mode and size; it is not changed.
        channels: 3 or 1.

    Raises:
        InputError: Another number of channels, or float values that are neither in [0, 1] nor in
            [0, 255].

    Example:
        >>> eight_bit(Image.new("RGBA", (1, 1), (200, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if channels not in (1, 3):
        raise InputError(
            f"an image has 3 channels, or 1 if gray; the model takes {channels}. Give it a tensor "
            f"(B, {channels}, H, W)."
        )
    mode = "L" if channels == 1 else "RGB"
    if is_deep(image):  # PIL would clip at 255
        values = np.asarray(image)
        white = image.info.get("white") or white_level(values)
        image = Image.fromarray(np.rint((values / white).clip(0, 1) * 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = rgba.convert("RGB")
        image.paste((255, 255, 255), mask=rgba.getchannel("A").point(lambda alpha: 255 - alpha))
    if image.mode == "LAB":
        image = image.convert("RGB")  # PIL cannot convert LAB to gray
    return image if image.mode == mode else image.convert(mode)


def white_level(values: "np.ndarray[Any, np.dtype[Any]]") -> float:
    """The value of a white pixel in an image that does not declare it.

    Args:
        values: Of any shape and number type, >= 0.

    Returns:
        1 for floats up to 1. Otherwise 255, 4095 (12 bits) or 65535, whichever is the first that no
        value exceeds: a guess, so a warning says it.

    Raises:
        InputError: Values are negative or not finite, or floats above 255.

    Example:
        >>> white_level(np.array([0.0, 0.5]))
        1.0
    """
    low, high = float(values.min()), float(values.max())
    is_float = values.dtype.kind == "f"
    if not np.isfinite([low, high]).all() or low < 0 or (is_float and high > 255):
        raise InputError(
            f"an image of {values.dtype} has values from {low:.4g} to {high:.4g}; a pixel is in "
            f"[0, 1]: write pixel_range=({low:.4g}, {max(high, low + 1):.4g}), the values of black "
            "and white."
        )
    if high <= 1:
        return 1.0 if is_float else 255.0
    white = 255.0 if high <= 255 else 4095.0 if high <= 4095 else 65535.0
    warnings.warn(
        f"an image of {values.dtype} does not say which value is white; {white:.0f} is assumed. To "
        f"say it, write pixel_range=(0, {white:.0f}), or --pixel-range 0 {white:.0f}.",
        stacklevel=2,
    )
    return white


def declared_white(image: Image.Image) -> float | None:
    """The value of white that an image file of more than 8 bits declares; None if it does not.

    TIFF files say it in MaxSampleValue, PNG files in their significant bits (sBIT), PGM files in
    their head (Pillow scales those to 16 bits).

    Args:
        image: As Pillow opened it.
    """
    if not is_deep(image):
        return None
    if image.format == "PPM":
        return 65535.0
    largest = getattr(image, "tag_v2", {}).get(281)  # MaxSampleValue
    if largest is not None:
        return float(largest[0] if isinstance(largest, tuple) else largest)
    name = getattr(image, "filename", "")
    if image.format == "PNG" and name and os.path.isfile(name):
        with open(name, "rb") as file:
            head = file.read(4096).partition(b"IDAT")[0]
        _, found, rest = head.partition(b"sBIT")
        return float(2 ** rest[0] - 1) if found and rest and 1 <= rest[0] <= 16 else None
    return None
