"""Pointing games: is the strongest point, or most of the mass, on the object?"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.thresholding import missing


@final
@dataclass(frozen=True, kw_only=True)
class PointingGame(Metric):
    """Does the map's largest value lie on the object? 1 if it does, else 0; where several pixels
    share it, the share that do.

    A point counts that is at most `tolerance` pixels from one of the object's boxes, measured
    between the middles of pixels, as the crow flies. Says nothing about extent, and large objects
    are hard to miss: the middle of the picture scores high, so compare with the `center-box`, whose
    largest value is a plateau. Ties count by their share, which is what pointing at one of them at
    random would score on average; the paper takes whichever its program finds first. NaN where the
    picture has no box.

    Args:
        tolerance: In pixels of the model's input, >= 0. The paper's 15 are pixels of the picture;
            with inputs much smaller than 224 write less.

    Raises:
        InputError: The tolerance is negative.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample, mask = Sample(images, labels, (torch.tensor([[2.0, 2.0, 8.0, 8.0]]),)), torch.zeros(1, 1, 16, 16)
        >>> mask[..., 9, 3] = 0.7
        >>> game = {"explain": lambda images, labels: mask, "generator": g}
        >>> PointingGame(tolerance=1)(black_box, sample, mask, **game), PointingGame(tolerance=2)(black_box, sample, mask, **game)
        ({'PointingGame': tensor([0.])}, {'PointingGame': tensor([1.])})

    References:
        Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 4.1. The
        paper averages the accuracies of the classes; a table has the mean over pictures.
    """

    tolerance: float = 15.0

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the tolerance."""
        if not 0 <= self.tolerance < float("inf"):
            raise InputError(f"{self}: a tolerance is in pixels, >= 0.")

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage:
        """The share of the largest values that hit, in [0, 1]. No query."""
        if sample.boxes is None:
            return missing(mask)
        top = mask == mask.amax((1, 2, 3), keepdim=True)
        return _share(
            top.to(mask.dtype), near_boxes(sample.boxes, mask, self.tolerance), sample.boxes
        )


@final
@dataclass(frozen=True, kw_only=True)
class EnergyPointingGame(Metric):
    """How much of the mask's mass lies on the object: the sum inside its boxes, as a share of the
    whole sum, in [0, 1].

    Higher is better. Needs no threshold and sees the whole map, but rewards covering little: a
    single right pixel scores 1, so read it beside a metric of what the mask keeps. A constant map
    scores the share of the picture that the boxes cover, and so does an empty one, which says as
    much. NaN where the picture has no box.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample, mask = Sample(images, labels, (torch.tensor([[0.0, 0.0, 8.0, 8.0]]),)), torch.ones(1, 1, 16, 16)
        >>> EnergyPointingGame()(black_box, sample, mask, explain=lambda images, labels: mask, generator=g)
        {'EnergyPointingGame': tensor([0.2500])}

    References:
        Wang et al. 2020, "Score-CAM", section 4.3.
    """

    higher_is_better: ClassVar[bool] = True

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage:
        """The share of the mass in pixels whose middle lies in a box. No query."""
        if sample.boxes is None:
            return missing(mask)
        empty = mask.amax((1, 2, 3), keepdim=True) == 0
        return _share(
            torch.where(empty, torch.ones_like(mask), mask),
            box_pixels(sample.boxes, mask),
            sample.boxes,
        )


def box_pixels(boxes: tuple[Tensor, ...], like: Mask) -> Tensor:
    """The pixels whose middles lie in one of each image's boxes, (B, 1, H, W) bool.

    Example:
        >>> box_pixels((torch.tensor([[0.0, 0.0, 1.6, 1.0]]),), torch.zeros(1, 1, 1, 3)).tolist()
        [[[[True, True, False]]]]
    """
    y, x = _middles(like)
    rows = []
    for corners in boxes:
        x0, y0, x1, y1 = corners.to(like).reshape(-1, 4, 1).unbind(1)
        across, down = (x0 <= x) & (x < x1), (y0 <= y) & (y < y1)  # (n, W) and (n, H)
        rows.append((down[:, :, None] & across[:, None, :]).any(0))
    return torch.stack(rows)[:, None]


def near_boxes(boxes: tuple[Tensor, ...], like: Mask, tolerance: float) -> Tensor:
    """The pixels at most `tolerance` pixels away from a pixel of one of each image's boxes, (B, 1,
    H, W) bool.

    Example:
        >>> near_boxes((torch.tensor([[0.0, 0.0, 1.0, 1.0]]),), torch.zeros(1, 1, 2, 3), 1.0).tolist()
        [[[[True, True, False], [True, False, False]]]]
    """
    y, x = _middles(like)
    rows = []
    for corners in boxes:
        x0, y0, x1, y1 = corners.to(like).reshape(-1, 4, 1).unbind(1)
        across, down = _away(x, x0, x1), _away(y, y0, y1)
        rows.append((down[:, :, None] ** 2 + across[:, None, :] ** 2 <= tolerance**2 + 1e-4).any(0))
    return torch.stack(rows)[:, None]


def _away(middles: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far each middle is from the nearest one between `low` and `high`, or from that of the
    pixel that they lie in.
    """
    first, last = (low - 0.5).ceil() + 0.5, (high - 0.5).ceil() - 0.5
    inside = ((low + high) / 2).floor() + 0.5
    first, last = torch.where(first > last, inside, first), torch.where(first > last, inside, last)
    return (first - middles).clamp_min(0) + (middles - last).clamp_min(0)


def _middles(like: Mask) -> tuple[Tensor, Tensor]:
    height, width = like.shape[2:]
    return (
        torch.arange(height, device=like.device, dtype=like.dtype) + 0.5,
        torch.arange(width, device=like.device, dtype=like.dtype) + 0.5,
    )


def _share(weights: Tensor, inside: Tensor, boxes: tuple[Tensor, ...]) -> PerImage:
    """The share of the weights inside; NaN for images without a box."""
    share = (weights * inside).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    known = torch.tensor([len(corners) > 0 for corners in boxes], device=share.device)
    return torch.where(known, share, float("nan"))
