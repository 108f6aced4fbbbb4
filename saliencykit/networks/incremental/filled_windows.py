"""An image with each of many windows filled, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.core.types import Images
from saliencykit.networks.incremental.regions import IntArray


@final
@dataclass(frozen=True, eq=False)
class Windows:
    """Rectangles of the image, in pixels, ends excluded; four arrays (n,)."""

    top: IntArray
    bottom: IntArray
    left: IntArray
    right: IntArray

    def __len__(self) -> int:
        return len(self.top)

    def slices(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each."""
        sides = (side.tolist() for side in (self.top, self.bottom, self.left, self.right))
        rectangles = zip(*sides, strict=True)
        return [(slice(top, bottom), slice(left, right)) for top, bottom, left, right in rectangles]


@final
@dataclass(frozen=True, eq=False)
class FilledWindows:
    """One image, and the fill of its windows.

    Attributes:
        image: (1, C, H, W).
        fill: (1, C, H, W), used inside of the windows.
        windows: W of them.
        regions: (H, W) int: window k changes only those of its pixels that have number k. None: all
            of them.
    """

    image: Images
    fill: Images
    windows: Windows
    regions: Tensor | None = None

    def edits(self, which: Sequence[int]) -> Images:
        """The edited images of these windows, (n, C, H, W); -1 is the image itself."""
        edits = self.image.expand(len(which), -1, -1, -1).clone()
        slices = self.windows.slices()
        for edit, number in zip(edits, which, strict=True):
            if number < 0:
                continue
            rows, columns = slices[number]
            own, fill = edit[:, rows, columns], self.fill[0, :, rows, columns]
            if self.regions is None:
                own.copy_(fill)  # `compose` with a mask of ones and zeros, without the arithmetic
            else:
                own.copy_(torch.where(self.regions[rows, columns] == number, fill, own))
        return edits

    def crops(
        self, which: Sequence[int], top: Tensor, left: Tensor, height: int, width: int
    ) -> Images:
        """Rectangles of the edited images, (n, C, height, width).

        Args:
            which: The windows that are filled.
            top: (n,), the first row of each rectangle.
            left: (n,), the first column of each rectangle.
            height: Of the rectangles.
            width: Of the rectangles.
        """
        device, numbers, windows = self.image.device, list(which), self.windows
        rows = (top[:, None] + torch.arange(height, device=device))[:, :, None]
        columns = (left[:, None] + torch.arange(width, device=device))[:, None]
        first, last, start, end = (
            torch.from_numpy(side[numbers]).to(device)[:, None, None]
            for side in (windows.top, windows.bottom, windows.left, windows.right)
        )
        inside = (rows >= first) & (rows < last) & (columns >= start) & (columns < end)
        if self.regions is not None:
            number = torch.tensor(numbers, device=device)[:, None, None]
            inside &= self.regions[rows, columns] == number
        own, fill = (x[0][:, rows, columns].transpose(0, 1) for x in (self.image, self.fill))
        return torch.where(inside[:, None], fill, own)
