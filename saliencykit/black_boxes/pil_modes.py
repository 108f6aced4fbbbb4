"""PIL images of any mode as 8-bit RGB or gray."""

from typing import Any

import numpy as np
from PIL import Image

from saliencykit.core.errors import InputError


def eight_bit(image: Image.Image, channels: int = 3) -> Image.Image:
    """The image in mode RGB, or L for one channel.

    Transparent pixels are put on white, palettes are looked up, 16-bit and float images are scaled
    to 8 bits, CMYK and other modes go through PIL's conversion.

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
    if image.mode.startswith(("I", "F")):  # I, F, I;16 and its byte orders: PIL would clip at 255
        image = _scaled(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = rgba.convert("RGB")
        image.paste((255, 255, 255), mask=rgba.getchannel("A").point(lambda alpha: 255 - alpha))
    if image.mode == "LAB":
        image = image.convert("RGB")  # PIL cannot convert LAB to gray
    return image if image.mode == mode else image.convert(mode)


def _scaled(image: Image.Image) -> Image.Image:
    values: np.ndarray[Any, np.dtype[np.float64]] = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all() or low < 0:
        raise InputError(
            f"an image of mode {image.mode} has values from {low:.4g} to {high:.4g}; they must be "
            ">= 0 and finite."
        )
    if image.mode == "F":
        if high > 255:
            raise InputError(f"a float image has values up to {high:.4g}; scale them to [0, 1].")
        white = 1.0 if high <= 1 else 255.0
    else:
        white = 65535.0 if high > 255 or image.mode.startswith("I;16") else 255.0
    return Image.fromarray(np.rint(np.minimum(values / white, 1) * 255).astype(np.uint8), mode=None)
