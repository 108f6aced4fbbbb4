"""How far the label's probability falls when a region of an image is replaced."""

from typing import final

import torch
from torch import Tensor

from saliencykit.maskers.query_engine import ROUNDING, MaskedQueries
from saliencykit.networks.incremental.filled_windows import FilledWindows, Windows
from saliencykit.networks.incremental.window_logits import WindowLogits


@final
class RegionDrops:
    """The drop of p(label) for each of a set of regions, which is the same for all images.

    With a fill that does not depend on the mask, only what a region can change is recomputed where
    the model's graph allows it (`saliencykit.networks.incremental`); else each region is a full
    forward pass.

    Args:
        windows: n bounding boxes, in pixels.
        regions: (H, W) integers: region k is the part of window k where they are k. None: the whole
            windows.
    """

    def __init__(self, windows: Windows, regions: Tensor | None = None) -> None:
        self._windows, self._regions = windows, regions
        self._window_logits: WindowLogits | None = None

    def __call__(self, queries: MaskedQueries) -> tuple[Tensor, Tensor]:
        """The drop for each region, (n,), and the size of a drop that is rounding noise, ()."""
        if queries.fill is None:
            ones = queries.image.new_ones(1, 1, *queries.image.shape[2:])
            masks = FilledWindows(ones, torch.zeros_like(ones), self._windows, self._regions)
            numbers = range(-1, len(self._windows))  # -1, the whole image, is part of a batch
            logits = queries.logits(len(numbers), lambda part: masks.edits(numbers[part]))
        else:
            if self._window_logits is None:
                black_box = queries.black_box
                self._window_logits = WindowLogits(
                    black_box, self._windows, black_box.max_batch_size
                )
            filled = FilledWindows(queries.image, queries.fill, self._windows, self._regions)
            logits = self._window_logits(filled)
        evidence = queries.evidence(logits)
        return evidence[0] - evidence[1:], evidence.abs().max() * ROUNDING
