"""The decoding budget: threads together decode no more pixels at once than fit into memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Condition
from typing import final

from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.storage.image_formats import opened_image

_PIXELS = 2**26  # decoded at once: some 12 bytes each until the image has the model's size
_SHOWN = 2**22  # pixels of a source image that is kept for its overlay


@final
class DecodingBudget:
    """Pixels that may be decoded at once; an image of more pixels is decoded alone.

    Args:
        pixels: The budget.

    Example:
        >>> budget = DecodingBudget(100)
        >>> with budget.held(60), budget.held(40):
        ...     budget.used
        100
    """

    def __init__(self, pixels: int) -> None:
        self.pixels, self.used, self._changed = pixels, 0, Condition()

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """In this block so many pixels are decoded; waits until they fit into the budget.

        Args:
            pixels: Of the image, >= 0.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + pixels <= self.pixels)
            self.used += pixels
        try:
            yield
        finally:
            with self._changed:
                self.used -= pixels
                self._changed.notify_all()


DECODING = DecodingBudget(_PIXELS)
"""Of this process."""


def pixel_count(image: object) -> int:
    """The pixels of an image file, from its header; 0 for anything else."""
    if not isinstance(image, str | os.PathLike):
        return 0
    try:
        with opened_image(Path(image).expanduser()) as opened:
            return opened.width * opened.height
    except InputError:  # opening it for good says why
        return 0


def reduced(image: Image.Image, geometry: Geometry | None) -> tuple[Image.Image, Geometry | None]:
    """A source image of at most 4 million pixels, which is enough to draw on, and its geometry."""
    if image.width * image.height <= _SHOWN or geometry is None:
        return image, geometry
    scale = (_SHOWN / (image.width * image.height)) ** 0.5
    width, height = (max(1, int(side * scale)) for side in image.size)
    across, down = width / image.width, height / image.height
    x0, y0, x1, y1 = geometry.region
    region = (x0 * across, y0 * down, x1 * across, y1 * down)
    small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    return small, replace(geometry, source_size=(height, width), region=region)
