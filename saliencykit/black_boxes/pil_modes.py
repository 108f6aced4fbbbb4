"""Any PIL picture as 8-bit RGB or grey: what a person sees, and what a classifier is given."""

from typing import TYPE_CHECKING, Any

import numpy as np

from saliencykit.core.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


def eight_bit(picture: "Image", channels: int = 3) -> "Image":
    """The picture in mode RGB, or L for one channel.

    Transparent pixels are laid over white, palettes are looked up, 16-bit and float pictures are
    scaled to 8 bits, CMYK and the rest go through PIL's conversion.

    Args:
        picture: A PIL picture of any mode and size; it is not changed.
        channels: 3 or 1.

    Raises:
        InputError: Another number of channels, or float values that are neither in [0, 1] nor in
            [0, 255].

    Example:
        >>> from PIL import Image
        >>> eight_bit(Image.new("RGBA", (1, 1), (200, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if channels not in (1, 3):
        raise InputError(
            f"a picture has 3 channels, or 1 if grey; the model takes {channels}. Give it a "
            f"tensor (B, {channels}, H, W)."
        )
    mode = "L" if channels == 1 else "RGB"
    if picture.mode.startswith(
        ("I", "F")
    ):  # I, F, I;16 and its byte orders: PIL would cut these off at 255
        picture = _scaled(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        flat = clear.convert("RGB")
        flat.paste((255, 255, 255), mask=clear.getchannel("A").point(lambda alpha: 255 - alpha))
        picture = flat
    if picture.mode == "LAB":
        picture = picture.convert("RGB")  # PIL has no way from here to grey
    return picture if picture.mode == mode else picture.convert(mode)


def _scaled(picture: "Image") -> "Image":
    from PIL import Image

    values: np.ndarray[Any, np.dtype[np.float64]] = np.asarray(picture, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all() or low < 0:
        raise InputError(
            f"a picture of mode {picture.mode} has values from {low:.4g} to {high:.4g}; they are "
            ">= 0 and finite."
        )
    if picture.mode == "F":
        if high > 255:
            raise InputError(f"a float picture has values up to {high:.4g}; scale them to [0, 1].")
        white = 1.0 if high <= 1 else 255.0
    else:
        white = 65535.0 if high > 255 or picture.mode.startswith("I;16") else 255.0
    return Image.fromarray(np.rint(np.minimum(values / white, 1) * 255).astype(np.uint8), mode=None)
