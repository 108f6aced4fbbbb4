"""Localization: is the bounding box of the mask on the object?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.thresholding import (
    Components,
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
    """Localization error: is the mask's bounding box wrong, by the rule of the ImageNet challenge?

    The bounding box of the thresholded mask is right if its intersection over union with one of the
    boxes of the labeled object is at least `overlap`. Lower is better; the mean over a data set is
    the localization error. The label is given, so only the place counts. It works for what it was
    made for: one object that fills a part of the image. The threshold decides much of the error, so
    choose it for each masker on other images (`thresholds` and `choose_threshold`); an error whose
    threshold was chosen on the same images is too optimistic. The center box is right on about half
    of ImageNet's photos, so compare with it. NaN where the image has no box.

    Args:
        rule: What the threshold refers to: `value`: the mask itself; `range`: the fraction of the
            way from its smallest to its largest value; `energy`: the fraction of its sum; `mean`:
            multiples of its mean. See `thresholded`.
        threshold: In [0, 1]; for `mean` >= 0.
        components: The box encloses `all` pixels that reach the threshold, or the `largest`
            connected component.
        overlap: The smallest intersection over union of a right box, in (0, 1].
        thresholds: The error at each of these too, in columns `error@0.3`, for `choose_threshold`;
            `LEVELS` has common ones.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample = Sample(images, labels, (torch.tensor([[2.0, 2.0, 8.0, 8.0]]),))
        >>> mask, metric = torch.zeros(1, 1, 16, 16), Localization()
        >>> mask[..., 2:6, 2:8] = 0.7
        >>> scores = metric(black_box, sample, mask, explain=lambda *_: mask, generator=g)
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
    components: Components = "all"
    overlap: Annotated[float, "(0, 1]"] = 0.5
    thresholds: tuple[float, ...] = ()

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_levels(self, self.rule, (self.threshold, *self.thresholds))

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`error`: 1 where the box is wrong, else 0, also at each of `thresholds`; `overlap` in
        [0, 1], higher is better. No query.
        """
        names = ["error", *(f"error@{level:g}" for level in self.thresholds)]
        if sample.boxes is None:
            return dict.fromkeys([*names, "overlap"], missing(mask))
        boxes = boxes_at(mask, self.rule, (self.threshold, *self.thresholds), self.components)
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
    """The chosen threshold, and its mean error over the `rows` that have a value."""

    threshold: float
    mean: float
    rows: int


def choose_threshold(
    rows: Iterable[Mapping[str, float | None]], *, column: str = "localization/error"
) -> ChosenThreshold:
    """The threshold with the lowest mean error over one masker's images; for use on other images.

    Args:
        rows: The scores by name of one masker's images, as `scores` in a run's `rows.jsonl`; None
            and NaN are skipped.
        column: The name of the columns before the `@`.

    Returns:
        The threshold; of equally good ones the middle one, which generalizes best.

    Raises:
        InputError: There is no such column, or no value in it.

    Example:
        >>> rows = [{"localization/error@0.3": 0.0, "localization/error@0.6": 1.0}]
        >>> choose_threshold(rows).threshold
        0.3
    """
    values = by_threshold(rows, column)
    means = {level: sum(some) / len(some) for level, some in values.items()}
    if not means:
        raise InputError(
            f"choose_threshold: no value in columns {column}@...; evaluate "
            "localization:thresholds=(0.3,0.5) on images with bounding boxes."
        )
    best = [level for level, mean in means.items() if mean == min(means.values())]
    chosen = best[(len(best) - 1) // 2]
    return ChosenThreshold(chosen, means[chosen], len(values[chosen]))
