"""Heat maps over images, with a color bar."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, np.dtype[Any]]

# nine of the 256 colors of inferno, from 0 to 1; between them it is linear to the eye
COLORS = (
    (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51),
    (249, 140, 10), (249, 201, 50), (252, 255, 164),
)  # fmt: skip
_STOPS = ",".join(f"rgb{color}" for color in COLORS)
COLOR_BAR = (
    "<span style='white-space:nowrap'>0<i style='display:inline-block;width:5em;height:.7em;"
    "margin:0 .4em;border-radius:2px;print-color-adjust:exact;"
    f"background:linear-gradient(90deg,{_STOPS})'></i>1</span>"
)
"""The color bar as HTML, for text below a heat map that has none."""
_OPACITY = 0.65  # of the colors over the image
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw_heatmap(image: Array, mask: Array) -> Image.Image:
    """Draw a mask in colors over its image in gray, with a color bar at the right.

    The colors go from black over red to light yellow, evenly to the eye, and legibly for people
    with color blindness and in print. The bar shows them as they appear over a gray of one half.

    Args:
        image: (H, W, 3) in [0, 1].
        mask: (H, W) in [0, 1].

    Returns:
        An RGB image, H pixels high and wider than W by the color bar.

    Example:
        >>> draw_heatmap(np.full((320, 480, 3), 0.5), np.zeros((320, 480))).height
        320
    """
    height, width = mask.shape
    bar = _color_bar(height)
    sheet = Image.new("RGB", (width + bar.width, height), "white")
    sheet.paste(blended(image, mask), (0, 0))
    sheet.paste(bar, (width, 0))
    return sheet


def blended(image: Array, mask: Array, opacity: float = _OPACITY) -> Image.Image:
    """A mask in colors over its image in gray, without a color bar.

    Args:
        image: (H, W, 3) in [0, 1].
        mask: (H, W) in [0, 1].
        opacity: Of the colors over the image, in [0, 1].

    Returns:
        An RGB image of W x H pixels.
    """
    mixed = opacity * colors(mask) + (1 - opacity) * in_gray(image)
    return Image.fromarray((np.clip(mixed, 0, 1) * 255 + 0.5).astype(np.uint8))


def in_gray(image: Array) -> Array:
    """The mean of the colors of each pixel; numpy's own takes ten times as long.

    Args:
        image: (H, W, 3).

    Returns:
        (H, W, 1).
    """
    return (image[..., 0:1] + image[..., 1:2] + image[..., 2:3]) / 3


def colors(values: Array) -> Array:
    """The color of each value.

    Args:
        values: In [0, 1], any shape.

    Returns:
        The same shape with a last dimension of 3, red, green and blue in [0, 1].

    References:
        van der Walt & Smith 2015, the colormap "inferno" of matplotlib (CC0).
    """
    places, table = np.linspace(0, 1, len(COLORS)), np.array(COLORS) / 255
    return np.stack([np.interp(values, places, channel) for channel in table.T], -1)


def _color_bar(height: int) -> Image.Image:
    """The bar and its numbers on white, as high as the image."""
    size = min(22, max(9, height // 24))
    font, margin, wide = ImageFont.load_default(size), size, max(10, height // 24)
    left = max(2, size // 2)
    right = left + wide + left // 2 + 2
    bar = Image.new("RGB", (right + int(font.getlength("0.75")) + left // 2, height), "white")
    top, bottom = margin, height - margin
    fractions = np.linspace(1, 0, max(1, bottom - top))
    shown = _OPACITY * colors(fractions) + (1 - _OPACITY) * 0.5
    column = np.repeat((shown * 255 + 0.5).astype(np.uint8)[:, None], wide, 1)
    bar.paste(Image.fromarray(column), (left, top))
    draw = ImageDraw.Draw(bar)
    ticks = _TICKS if height > 12 * size else (0.0, 1.0)
    for tick in ticks:
        y = bottom - 1 - tick * (bottom - top - 1)
        draw.text((right, y), f"{tick:g}", fill=(60, 60, 60), font=font, anchor="lm")
    return bar
