"""Localisation: does a box around the mask lie on the object?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.thresholding import (
    BlackBoxWrapper,
    Rule,
    best_overlaps,
    boxes_at,
    by_threshold,
    check_levels,
    missing,
)


@final
@dataclass(frozen=True, kw_only=True)
class Localization(Metric):
    """Is the mask's box wrong, by the rule of the ImageNet localization challenge? The label is
    given, so only the place counts.

    The box around what a threshold leaves of the mask is right where its intersection over union
    with one of the boxes of the labelled object is at least `overlap`. Lower is better, and the
    mean over a data set is the localization error. Good at what it was made for: one object that
    fills a part of the picture. The threshold decides much of the number and is chosen for each
    masker on pictures that are not counted (`thresholds` and `choose_threshold`); a number whose
    threshold was chosen on the same pictures is too good. The centre box is right on about half of
    ImageNet's photos, so compare with it. NaN where the picture has no box.

    Args:
        rule: What the threshold is compared with; see `thresholded`: `value` the mask itself, `range` the
            share of the way from its smallest to its largest value, `energy` the share of its sum,
            `mean` multiples of its mean.
        threshold: In [0, 1]; for `mean` >= 0.
        around: The box is the tightest around `all` pixels that are left, or around the `largest`
            connected part of them.
        overlap: The least intersection over union of a right box, in (0, 1].
        thresholds: The same at each of these too, in columns `error@0.3`, for `choose_threshold`;
            `cutting.LEVELS` has usual ones.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample, mask = Sample(images, labels, (torch.tensor([[2.0, 2.0, 8.0, 8.0]]),)), torch.zeros(1, 1, 16, 16)
        >>> mask[..., 2:6, 2:8] = 0.7
        >>> scores = Localization()(black_box, sample, mask, explain=lambda images, labels: mask, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'error': 0.0, 'overlap': 0.67}

    References:
        Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge". Dabkowski &
        Gal 2017, section 5.1, table 1. Thresholds by value, energy and mean: Cao et al. 2015, "Look
        and Think Twice". Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop",
        section 4.2.
    """

    rule: Rule = "range"
    threshold: float = 0.5
    around: BlackBoxWrapper = "all"
    overlap: float = 0.5
    thresholds: tuple[float, ...] = ()

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_levels(self, self.rule, (self.threshold, *self.thresholds))
        if self.around not in ("all", "largest"):
            raise InputError(f"{self}: around is 'all' or 'largest'.")
        if not 0 < self.overlap <= 1:
            raise InputError(f"{self}: overlap is an intersection over union, in (0, 1].")

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """1 where the box is wrong, else 0, also at each of `thresholds`; the overlap, in [0, 1],
        higher is better. No query.
        """
        names = ["error", *(f"error@{level:g}" for level in self.thresholds)]
        if sample.boxes is None:
            return dict.fromkeys([*names, "overlap"], missing(mask))
        boxes = boxes_at(mask, self.rule, (self.threshold, *self.thresholds), self.around)
        overlaps = torch.stack(best_overlaps(list(boxes), sample.boxes, mask.dtype))
        errors = torch.where(overlaps.isnan(), overlaps, (overlaps < self.overlap).to(mask.dtype))
        return {
            "error": errors[:, 0],
            "overlap": overlaps[:, 0],
            **dict(zip(names[1:], errors[:, 1:].unbind(1), strict=True)),
        }


@final
@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold that was chosen: its mean on the `rows` that have a value, out of those that were
    looked at.
    """

    threshold: float
    mean: float
    rows: int


def choose_threshold(
    rows: Iterable[Mapping[str, float | None]], *, column: str = "localization/error"
) -> ChosenThreshold:
    """The threshold with the lowest mean error on the pictures of one masker; to be used on other
    pictures than these.

    Args:
        rows: The scores by name of one masker's pictures, as a run's `rows.jsonl` has them under
            `scores`; None and NaN are left out.
        column: What stands before the `@` of the columns.

    Returns:
        The threshold; of equally good ones the middle one, which is the least surprising on other
        pictures.

    Raises:
        InputError: There is no such column, or no value in it.

    Example:
        >>> choose_threshold([{"localization/error@0.3": 0.0, "localization/error@0.6": 1.0}]).threshold
        0.3
    """
    values = by_threshold(rows, column)
    means = {level: sum(some) / len(some) for level, some in values.items()}
    if not means:
        raise InputError(
            f"choose_threshold: no value in columns {column}@...; evaluate "
            "localization:thresholds=(0.3,0.5) on boxed pictures."
        )
    best = [level for level, mean in means.items() if mean == min(means.values())]
    chosen = best[(len(best) - 1) // 2]
    return ChosenThreshold(chosen, means[chosen], len(values[chosen]))
