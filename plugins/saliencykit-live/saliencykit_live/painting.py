"""What the window shows: the frame with its mask, the class and the frame rate."""

from typing import Any

import numpy as np

from saliencykit import Explanation
from saliencykit.video import mask_on_frame
from saliencykit.visualization import draw_overlay

Array = np.ndarray[Any, np.dtype[Any]]


def painted(explanation: Explanation, line: str) -> Array:
    """The overlay of a frame with a line of text, (H, W, 3) uint8 RGB.

    Args:
        explanation: The explanation of one frame, with its source image.
        line: Text for the upper left corner, on a dark background.
    """
    from PIL import ImageDraw, ImageFont

    image = explanation.source_images[0]
    assert image is not None
    pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    mask = mask_on_frame(explanation, image.size) / np.float32(255)
    page = draw_overlay(pixels, mask, faint=0.1)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(max(12, page.height // 24))
    bbox = draw.textbbox((8, 6), line, font=font)
    draw.rectangle((0, 0, bbox[2] + 8, bbox[3] + 6), fill=(20, 20, 20))
    draw.text((8, 6), line, fill=(255, 255, 255), font=font)
    return np.asarray(page)
