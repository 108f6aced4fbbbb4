"""The decoding budget: threads together decode no more pixels at once than fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Condition, local
from typing import final

from PIL import Image

from saliencykit.core.geometry import Geometry

_PIXELS = 2**26  # decoded at once: some 12 bytes each until the image has the model's size
_SHOWN = 2**22  # pixels of a source image that is kept for its overlay


@final
class DecodingBudget:
    """Pixels that may be decoded at once; an image of more pixels is decoded alone.

    Args:
        pixels: The budget.

    Example:
        >>> budget = DecodingBudget(100)
        >>> with budget.block():
        ...     budget.claim(60)
        ...     budget.used
        60
        >>> budget.used
        0
    """

    def __init__(self, pixels: int) -> None:
        self.pixels, self.used, self._changed = pixels, 0, Condition()
        self._thread = local()

    @contextmanager
    def block(self) -> Iterator[None]:
        """What this thread claims in this block is given back at its end."""
        self._thread.claimed = 0
        try:
            yield
        finally:
            with self._changed:
                self.used -= self._thread.claimed
                self._changed.notify_all()
            del self._thread.claimed

    def claim(self, pixels: int) -> None:
        """Wait until so many pixels fit into the budget; outside of a block nothing is counted.

        Args:
            pixels: Of the image that is decoded next, >= 0.
        """
        own = getattr(self._thread, "claimed", None)
        if own is None:
            return
        with self._changed:
            self._changed.wait_for(
                lambda: self.used == own or self.used + pixels <= self.pixels  # or no other thread
            )
            self.used += pixels
        self._thread.claimed = own + pixels


DECODING = DecodingBudget(_PIXELS)
"""Of this process."""


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
