"""Occlusion: slide a window over the image and measure how far the probability drops."""

from dataclasses import dataclass
from math import ceil
from typing import Annotated, final

import numpy as np
import torch
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.maskers.perturbation.region_drops import RegionDrops
from saliencykit.maskers.query_engine import masked_queries
from saliencykit.networks.incremental.filled_windows import Windows

_MEAN = Constant(color="mean")


@final
@dataclass(frozen=True, kw_only=True)
class Occlusion(Masker):
    """Replaces one window of the image after another. The attribution of a pixel is the mean drop
    of p(label) over the windows that cover it.

    Deterministic, without gradients, and easy to read: an attribution is a difference of
    probabilities. It shows what is necessary on its own. Of evidence that is there twice it shows
    neither copy, and nothing much smaller than a window. It takes one query per window and one for
    the whole image: 626 with the defaults at 224 px, about as many at other sizes.

    The mask is the positive part of the attributions divided by their maximum, so a window whose
    loss *raises* the probability is not kept.

    For a torch model only what a window can change is recomputed, in a third to a half of the time,
    with the same result up to rounding. Where the model's graph does not allow it (attention, early
    squeeze-and-excitation blocks, fills that depend on the window) each window is a full forward
    pass. See `saliencykit.networks.incremental`.

    Args:
        window: Side of the square window, > 0: in pixels if >= 1, else as a fraction of the shorter
            side. 1/7 is 32 px of 224.
        stride: Distance between windows, > 0, at most `window`, in the same units. 1/28 is 8 px of
            224. The last window of a row or column is clipped at the edge of the image.
        alternative: What replaces a window. By default the mean color of the image. A random one
            (noise, a choice) is drawn once per image, so that all windows get the same fill.

    Raises:
        InputError: A number is out of range, or a window is larger than the image.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Occlusion(window=4, stride=2)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Zeiler & Fergus 2014, section 4.2; Zhou et al. 2014, "Object detectors emerge in deep scene
        CNNs", section 3.1.
    """

    window: Annotated[float, "(0, inf)"] = 1 / 7
    stride: Annotated[float, "(0, inf)"] = 1 / 28
    alternative: Alternative = _MEAN

    def evaluations(self, black_box: BlackBox, images: Images) -> int | None:
        """One for each window and the whole image; of a torch module only parts are computed."""
        height, width = images.shape[2:]
        window, stride = self._pixels(height, width)
        down, across = (_coverage(side, window, stride, images) for side in (height, width))
        return len(down) * len(across) + 1 if black_box.module is None else None

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Attributions in units of probability, and their positive part as the mask."""
        height, width = images.shape[2:]
        window, stride = self._pixels(height, width)
        down, across = (_coverage(side, window, stride, images) for side in (height, width))
        drops_of, attributions, floors = RegionDrops(_windows(down, across)), [], []
        for queries in masked_queries(black_box, images, labels, self.alternative, generator):
            drops, floor = drops_of(queries)
            total = down.T @ drops.view(len(down), len(across)) @ across
            attributions.append(total / (down.sum(0)[:, None] * across.sum(0)))
            floors.append(floor)
        stacked = torch.stack(attributions)[:, None]
        return MaskerOutput(mask_from_attributions(stacked, torch.stack(floors)), stacked)

    def _pixels(self, height: int, width: int) -> tuple[int, int]:
        """Window and stride in whole pixels."""
        short = min(height, width)
        window, stride = (
            max(1, round(v if v >= 1 else v * short)) for v in (self.window, self.stride)
        )
        if window > short:
            raise InputError(
                f"Occlusion(window={self.window}) is larger than the {height} x {width} image; "
                "write window=1/7."
            )
        if stride > window:
            raise InputError(
                f"Occlusion(window={self.window}, stride={self.stride}): a stride of {stride} px "
                f"with a window of {window} px would miss pixels; use a stride of at most the "
                "window."
            )
        return window, stride


def _coverage(side: int, window: int, stride: int, like: Tensor) -> Tensor:
    """Which pixels of a side each window covers: (windows, side), 1 or 0."""
    starts = torch.arange(ceil((side - window) / stride) + 1, device=like.device)[:, None] * stride
    pixels = torch.arange(side, device=like.device)
    return ((pixels >= starts) & (pixels < starts + window)).to(like.dtype)


def _windows(down: Tensor, across: Tensor) -> Windows:
    """All windows, row by row."""
    ends = []
    for coverage in (down, across):
        start = coverage.argmax(1)
        ends += [start.cpu().numpy(), (start + coverage.sum(1).long()).cpu().numpy()]
    top, bottom, left, right = ends
    rows, columns = np.indices((len(top), len(left))).reshape(2, -1)
    return Windows(top[rows], bottom[rows], left[columns], right[columns])
