"""Rectangles of a feature map, one per window, as arrays."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Span = tuple[IntArray, IntArray]
"""First positions, and ends (excluded), along one axis."""


@final
@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of equal size for each of n windows, anywhere; `top` and `left` are (n,)."""

    height: int
    width: int
    top: IntArray
    left: IntArray

    def equals(self, other: "Region") -> bool:
        """Are they the same rectangles?"""
        return self is other or (
            (self.height, self.width) == (other.height, other.width)
            and bool((self.top == other.top).all() and (self.left == other.left).all())
        )

    def spans(self) -> tuple[Span, Span]:
        """Down and across."""
        return (self.top, self.top + self.height), (self.left, self.left + self.width)

    def positions(self, height: int, width: int, outside: int) -> IntArray:
        """The positions of each rectangle in a flattened map of height x width, (n, h, w).

        Args:
            height: Of the map.
            width: Of the map.
            outside: In place of positions that are not in the map.
        """
        rows = np.arange(self.height)[None] + self.top[:, None]
        columns = np.arange(self.width)[None] + self.left[:, None]
        down, across = rows[:, :, None], columns[:, None]
        inside = (down >= 0) & (down < height) & (across >= 0) & (across < width)
        return np.where(inside, down * width + across, outside)


def region_around(down: Span, across: Span, height: int, width: int) -> Region:
    """Rectangles of equal size around these spans, moved inwards where they would leave the map."""
    tops, lefts = np.clip(down[0], 0, height - 1), np.clip(across[0], 0, width - 1)
    tall = max(1, int((np.clip(down[1], 0, height) - tops).max()))
    wide = max(1, int((np.clip(across[1], 0, width) - lefts).max()))
    return Region(tall, wide, np.minimum(tops, height - tall), np.minimum(lefts, width - wide))


def reached_span(span: Span, extent: int, stride: int, padding: int) -> Span:
    """The output positions whose kernel reads a changed position, along one axis.

    Args:
        span: The changed positions of the input.
        extent: Of the kernel.
        stride: Of the kernel.
        padding: Before the first position.
    """
    first, end = span
    return -((extent - 1 - padding - first) // stride), (end - 1 + padding) // stride + 1
