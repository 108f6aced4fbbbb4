"""Occlusion: slide a patch over the picture and see where the answer falls."""

from dataclasses import dataclass
from math import ceil
from typing import final

import numpy as np
import torch
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core import class_scores, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions, probabilities
from saliencykit.networks.incremental.receptive_cone import Numbers, Windows
from saliencykit.networks.incremental.window_logits import Filled, WindowLogits

_MEAN = Constant(color="mean")
_ROUNDING = 1e-5  # of the largest probability: a map below it says nothing, the answers are float32


@final
@dataclass(frozen=True, kw_only=True)
class Occlusion(Masker):
    """Windows of the picture replaced in turn; a pixel's score is the mean drop of the label's
    probability over its windows.

    Deterministic, needs no gradients, and easy to read: a score is a probability. It finds what is
    necessary on its own; of evidence that is there twice it finds neither, and nothing much smaller
    than the window. One evaluation per window and one for the picture: 626 with the defaults at 224
    px, about as many at any other size.

    The mask is the positive part of the scores divided by its maximum, so a window whose loss
    *raises* the probability is not kept.

    Of a torch model only what a window can change is computed, in a third to a half of the time and
    to the same numbers but for rounding; where the model's graph does not allow it (attention,
    squeeze-and-excitation from its first layers on, fills that depend on the window) every window
    is a full pass. See `saliencykit.networks.incremental`.

    Args:
        window: Side of the square window, > 0: in pixels if >= 1, else as a share of the shorter
            side. A seventh is 32 px of 224.
        stride: Steps between windows, > 0, at most `window`, in the same units; 8 px of 224. The
            last window of a row or column may reach over the edge, and is cut off there.
        alternative: What stands in the window. By default the picture's own mean colour; one that
            draws (noise, a choice) is drawn once per picture, so that windows are compared with
            equal fills.

    Raises:
        InputError: A number is out of range, or a window is larger than the picture it is used on.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Occlusion(window=4, stride=2)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Zeiler & Fergus 2014, section 4.2; Zhou et al. 2014, "Object detectors emerge in deep scene
        CNNs", section 3.1.
    """

    window: float = 1 / 7
    stride: float = 1 / 28
    alternative: Alternative = _MEAN

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in (("window", self.window), ("stride", self.stride)):
            if not 0 < value < float("inf"):
                raise InputError(
                    f"Occlusion({name}={value}): it is > 0, in pixels if >= 1, else a share of "
                    "the shorter side."
                )
        if not isinstance(self.alternative, Alternative):
            raise InputError(
                f"Occlusion(alternative={self.alternative!r}) takes an Alternative, such as "
                "Constant(color='mean')."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Scores in units of probability, and their positive part as the mask."""
        height, width = images.shape[2:]
        down, across = (
            _covers(side, *self._pixels(height, width), images) for side in (height, width)
        )
        seed = rng.seed(generator)
        black_box, alternative = (
            black_box.optimized_for(images),
            self.alternative.for_black_box(black_box),
        )
        windows = _windows(down, across)
        ask, maps, floors = WindowLogits(black_box, windows, black_box.max_batch), [], []
        for image, label in zip(images[:, None], labels[:, None], strict=True):
            fill = shared_fill(alternative, image, Generator().manual_seed(seed))
            if fill is None:
                answers = _one_by_one(black_box, image, label, windows, alternative, seed)
            else:
                logits = ask(Filled(image, fill, windows))
                answers = class_scores.probability(logits, label.expand(len(logits)))
            drops = (answers[0] - answers[1:]).view(len(down), len(across))
            total, covers = down.T @ drops @ across, down.sum(0)[:, None] * across.sum(0)
            maps.append(total / covers)
            floors.append(answers.max() * _ROUNDING)
        scores = torch.stack(maps)[:, None]
        return MaskerOutput(mask_from_attributions(scores, torch.stack(floors)), scores)

    def _pixels(self, height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        window, stride = (
            max(1, round(v if v >= 1 else v * short)) for v in (self.window, self.stride)
        )
        if window > short:
            raise InputError(
                f"Occlusion(window={self.window}) is larger than the {height} x {width} picture; "
                "write window=1/7."
            )
        if stride > window:
            raise InputError(
                f"Occlusion(window={self.window}, stride={self.stride}) steps {stride} px with a "
                f"window of {window} px and would miss pixels; write a stride of at most the "
                "window."
            )
        return window, stride


def _covers(side: int, window: int, stride: int, like: Tensor) -> Tensor:
    """Which pixels of a side each window covers, (windows, side), 1 or 0."""
    starts = torch.arange(ceil((side - window) / stride) + 1, device=like.device)[:, None] * stride
    pixels = torch.arange(side, device=like.device)
    return ((pixels >= starts) & (pixels < starts + window)).to(like.dtype)


def _windows(down: Tensor, across: Tensor) -> Windows:
    """All windows, row by row."""
    (top, bottom), (left, right) = (_ends(covers) for covers in (down, across))
    rows, columns = (
        np.repeat(np.arange(len(top)), len(left)),
        np.tile(np.arange(len(left)), len(top)),
    )
    return Windows(top[rows], bottom[rows], left[columns], right[columns])


def _ends(covers: Tensor) -> tuple[Numbers, Numbers]:
    starts = covers.argmax(1)
    return starts.cpu().numpy(), (starts + covers.sum(1).long()).cpu().numpy()


def _one_by_one(
    black_box: BlackBox,
    image: Images,
    label: Tensor,
    windows: Windows,
    alternative: Alternative,
    seed: int,
) -> Tensor:
    """The label's probability in the picture itself and in each edit by an alternative that looks
    at the mask, (1 + windows,).
    """
    # no window at all comes first: the picture is asked in a batch with its edits
    slices = [(slice(0), slice(0)), *windows.slices()]
    step = micro_batch(black_box)
    parts = [slices[at : at + step] for at in range(0, len(slices), step)]
    edits = (_edited(image, part, alternative, Generator().manual_seed(seed)) for part in parts)
    return torch.cat([probabilities(black_box, edit, label) for edit in edits])


def _edited(
    image: Images,
    windows: list[tuple[slice, slice]],
    alternative: Alternative,
    generator: Generator,
) -> Images:
    masks = image.new_ones(len(windows), 1, *image.shape[2:])
    for mask, (y, x) in zip(masks, windows, strict=True):
        mask[0, y, x] = 0
    return alternative.edit(image.expand(len(windows), -1, -1, -1), masks, generator)
