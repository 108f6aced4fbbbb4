"""Pointing games: is the map's maximum, or most of its sum, where the evidence should be?"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.thresholding import missing


@dataclass(frozen=True, kw_only=True)
class _Inside(Metric):
    """The fraction of a weighting of the pixels that is inside the object: inside the sample's
    regions where it has them, else inside its boxes.
    """

    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def _weights(self, mask: Mask) -> Tensor:
        """The weight of each pixel, (B, 1, H, W), not all 0."""

    @abstractmethod
    def _inside(self, sample: Sample, mask: Mask) -> Tensor:
        """What counts as inside, (B, 1, H, W) in [0, 1]; all 0 where that is unknown."""

    @final
    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage:
        """The fraction inside, in [0, 1]. No query."""
        if sample.boxes is None and sample.inside is None:
            return missing(mask)
        weights, inside = self._weights(mask), self._inside(sample, mask)
        share = (weights * inside).sum((1, 2, 3)) / weights.sum((1, 2, 3))
        if sample.inside is not None:
            known = inside.amax((1, 2, 3)) > 0
        else:
            known = torch.tensor([len(each) > 0 for each in sample.boxes or ()], device=mask.device)
        return torch.where(known, share, float("nan"))


@final
@dataclass(frozen=True, kw_only=True)
class PointingGame(_Inside):
    """Pointing game: is the map's maximum on the object? 1 if it is, else 0; where several pixels
    share the maximum, the fraction of them that are.

    A point is a hit if it is at most `tolerance` pixels (Euclidean, between pixel centers) from one
    of the object's boxes. It says nothing about extent, and large objects are hard to miss: the
    center of the image scores high, so compare with `center-box`, whose maximum is a plateau. Ties
    count by their fraction, the expected score of a random choice; the paper takes the first. Where
    the sample has regions (`inside`) they count in place of the boxes. NaN where the image has
    neither.

    Args:
        tolerance: In pixels of the model's input, >= 0. The paper's 15 are pixels of the image; for
            inputs much smaller than 224 use less.

    Raises:
        InputError: The tolerance is negative.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample = Sample(images, labels, (torch.tensor([[2.0, 2.0, 8.0, 8.0]]),))
        >>> mask, metric = torch.zeros(1, 1, 16, 16), PointingGame(tolerance=2)
        >>> mask[..., 9, 3] = 0.7
        >>> metric(black_box, sample, mask, explain=lambda *_: mask, generator=g)
        {'PointingGame': tensor([1.])}

    References:
        Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 4.1. The
        paper averages the accuracies of the classes; a table has the mean over images.
    """

    tolerance: Annotated[float, "[0, inf)"] = 15.0

    def _weights(self, mask: Mask) -> Tensor:
        return (mask == mask.amax((1, 2, 3), keepdim=True)).to(mask.dtype)

    def _inside(self, sample: Sample, mask: Mask) -> Tensor:
        if sample.inside is not None:
            return near_region(sample.inside, self.tolerance).to(mask)
        return near_boxes(sample.boxes or (), mask, self.tolerance).to(mask)


@final
@dataclass(frozen=True, kw_only=True)
class EnergyPointingGame(_Inside):
    """Energy-based pointing game: the fraction of the mask's sum inside the object's boxes.

    Higher is better. It needs no threshold and sees the whole map, but rewards covering little: a
    single right pixel scores 1, so read it together with a metric of what the mask keeps. A
    constant map, and an empty one, score the fraction of the image that the boxes cover. Where the
    sample has regions (`inside`), of any shape and with soft borders, they count in place of the
    boxes: the share of the mask on a watermark, or on the object. NaN where the image has neither.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample = Sample(images, labels, (torch.tensor([[0.0, 0.0, 8.0, 8.0]]),))
        >>> mask, metric = torch.ones(1, 1, 16, 16), EnergyPointingGame()
        >>> metric(black_box, sample, mask, explain=lambda *_: mask, generator=g)
        {'EnergyPointingGame': tensor([0.2500])}

    References:
        Wang et al. 2020, "Score-CAM", section 4.3.
    """

    def _weights(self, mask: Mask) -> Tensor:
        empty = mask.amax((1, 2, 3), keepdim=True) == 0
        return torch.where(empty, torch.ones_like(mask), mask)

    def _inside(self, sample: Sample, mask: Mask) -> Tensor:
        if sample.inside is not None:
            return sample.inside.to(mask)
        return box_pixels(sample.boxes or (), mask).to(mask)


def box_pixels(boxes: tuple[Tensor, ...], like: Mask) -> Tensor:
    """The pixels whose centers lie in one of each image's boxes, (B, 1, H, W) bool.

    Example:
        >>> box_pixels((torch.tensor([[0.0, 0.0, 1.6, 1.0]]),), torch.zeros(1, 1, 1, 3)).tolist()
        [[[[True, True, False]]]]
    """
    y, x = _centers(like)
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
        >>> box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        >>> near_boxes((box,), torch.zeros(1, 1, 2, 3), 1.0).tolist()
        [[[[True, True, False], [True, False, False]]]]
    """
    y, x = _centers(like)
    rows = []
    for corners in boxes:
        x0, y0, x1, y1 = corners.to(like).reshape(-1, 4, 1).unbind(1)
        across, down = _distance(x, x0, x1), _distance(y, y0, y1)
        rows.append((down[:, :, None] ** 2 + across[:, None, :] ** 2 <= tolerance**2 + 1e-4).any(0))
    return torch.stack(rows)[:, None]


def near_region(region: Mask, tolerance: float) -> Mask:
    """The pixels at most `tolerance` pixels away from one with at least half of a region, (B, 1, H,
    W) in {0, 1}.

    Example:
        >>> near_region(torch.tensor([[[[1.0, 0.2, 0.0], [0.0, 0.0, 0.0]]]]), 1.0).tolist()
        [[[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]]
    """
    reach = int(tolerance)
    steps = torch.arange(-reach, reach + 1, device=region.device)
    disk = (steps[:, None] ** 2 + steps**2 <= tolerance**2 + 1e-4).float()
    near = F.conv2d((region >= 0.5).float(), disk[None, None], padding=reach)
    return (near > 0.5).to(region)


def _distance(centers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The distance of each pixel center from the nearest one between `low` and `high`; from that of
    the pixel around them if there is none between.
    """
    first, last = (low - 0.5).ceil() + 0.5, (high - 0.5).ceil() - 0.5
    around = ((low + high) / 2).floor() + 0.5
    first, last = torch.where(first > last, around, first), torch.where(first > last, around, last)
    return (first - centers).clamp_min(0) + (centers - last).clamp_min(0)


def _centers(like: Mask) -> tuple[Tensor, ...]:
    """The coordinates of the pixel centers, (H,) and (W,)."""
    return tuple(
        torch.arange(side, device=like.device, dtype=like.dtype) + 0.5 for side in like.shape[2:]
    )
