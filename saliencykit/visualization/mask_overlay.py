"""Overlays of masks on images, drawn from arrays."""

import math
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from saliencykit.core.checks import one_of
from saliencykit.visualization.heatmap import Array, draw_heatmap, in_gray

Style: TypeAlias = Literal["outline", "heatmap", "kept"]
"""How a mask is drawn over its image; see `draw_overlay`."""
STYLES: tuple[Style, ...] = ("outline", "heatmap", "kept")

CONTOUR_COLOR = (255, 106, 0)
"""RGB of the outline: an orange that is rare in skin, grass, sky and fur."""
DIMMING = 0.28
"""Brightness of a pixel where the mask is 0."""
DIMMED_SATURATION = 0.4
"""Color saturation of a pixel where the mask is 0."""
_PLAIN = 0.5  # gray


def draw_overlay(
    image: Array,
    mask: Array,
    *,
    style: Style = "outline",
    color: tuple[int, int, int] = CONTOUR_COLOR,
    faint: float = 1e-6,
) -> Image.Image:
    """Draw a mask over an image.

    - `outline`: pixels inside keep their color, the rest turns dark and gray, and a line runs where
      the mask passes one half of its largest value.
    - `heatmap`: the mask's values in colors over the image in gray, with a color bar at the right.
    - `kept`: what the mask keeps, on a plain gray.

    Args:
        image: (H, W, 3) in [0, 1].
        mask: (H, W) in [0, 1]; 1 keeps a pixel.
        style: One of those above.
        color: RGB of the outline, each in 0..255.
        faint: A mask that stays below this value has no outline.

    Returns:
        An RGB image of W x H pixels; a heat map is wider by its color bar.

    Raises:
        InputError: The style is unknown.

    Example:
        >>> mask = np.zeros((4, 6), np.float32)
        >>> mask[:, 3:] = 1
        >>> draw_overlay(np.full((4, 6, 3), 0.5), mask).getpixel((5, 0))
        (128, 128, 128)
    """
    one_of("draw_overlay", STYLES, style=style)
    if style == "heatmap":
        return draw_heatmap(image, mask)
    if style == "kept":
        return _image(image * mask[..., None] + _PLAIN * (1 - mask[..., None]))
    gray = in_gray(image)
    dimmed = DIMMING * ((1 - DIMMED_SATURATION) * gray + DIMMED_SATURATION * image)
    pixels = np.array(_image(image * mask[..., None] + dimmed * (1 - mask[..., None])))
    pixels[outline(mask, faint=faint)] = color
    return Image.fromarray(pixels)


def outline(mask: Array, *, faint: float = 1e-6) -> Array:
    """The boundary of the region where a mask reaches half of its largest value.

    Args:
        mask: (H, W), floats or 8-bit integers.
        faint: A mask that stays below this value has no outline.

    Returns:
        (H, W) bool. The line is an even number of pixels wide, about 1/80 of the shorter side; it
        does not run along the border of the image.
    """
    threshold = max(faint, float(mask.max()) / 2)
    # 8-bit pixels are compared as such: a frame of a video has no time for floats
    inside = mask >= (math.ceil(threshold) if mask.dtype == np.uint8 else threshold)
    line = np.zeros_like(inside)
    across, down = inside[:, 1:] != inside[:, :-1], inside[1:] != inside[:-1]
    line[:, 1:] |= across
    line[:, :-1] |= across
    line[1:] |= down
    line[:-1] |= down
    for _ in range(max(1, round(min(mask.shape) / 160)) - 1):
        wider = line.copy()
        wider[:, 1:] |= line[:, :-1]
        wider[:, :-1] |= line[:, 1:]
        line = wider.copy()
        line[1:] |= wider[:-1]
        line[:-1] |= wider[1:]
    return line


def _image(pixels: Array) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
