"""Overlays of masks on images, drawn from arrays."""

import math
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

CONTOUR_COLOR = (255, 106, 0)
"""RGB of the outline: an orange that is rare in skin, grass, sky and fur."""
DIMMING = 0.28
"""Brightness of a pixel where the mask is 0."""
DIMMED_SATURATION = 0.4
"""Color saturation of a pixel where the mask is 0."""


def draw_overlay(
    image: Array,
    mask: Array,
    *,
    color: tuple[int, int, int] = CONTOUR_COLOR,
    faint: float = 1e-6,
) -> Image.Image:
    """Draw a mask over an image: pixels inside keep their color, the rest turns dark and gray.

    An outline runs where the mask passes one half of its largest value.

    Args:
        image: (H, W, 3) in [0, 1].
        mask: (H, W) in [0, 1]; 1 keeps a pixel.
        color: RGB of the outline, each in 0..255.
        faint: A mask that stays below this value has no outline.

    Returns:
        An RGB image of W x H pixels.

    Example:
        >>> mask = np.zeros((4, 6), np.float32)
        >>> mask[:, 3:] = 1
        >>> draw_overlay(np.full((4, 6, 3), 0.5), mask).getpixel((5, 0))
        (128, 128, 128)
    """
    gray = image.mean(2, keepdims=True)
    dimmed = DIMMING * ((1 - DIMMED_SATURATION) * gray + DIMMED_SATURATION * image)
    shown = image * mask[..., None] + dimmed * (1 - mask[..., None])
    pixels = (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
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
