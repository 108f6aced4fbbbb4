"""MaxBoxAccV2: localization at the best threshold, averaged over three overlaps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.thresholding import (
    best_overlaps,
    by_threshold,
    check_levels,
    component_boxes,
    missing,
    thresholded,
)


@final
@dataclass(frozen=True, kw_only=True)
class MaxBoxAccV2(Metric):
    """The best overlap of any connected component's bounding box with the object's, by threshold.

    The map is thresholded at fractions of its range; each connected component has a bounding box;
    the value is the largest intersection over union of any of these with any box of the labeled
    object. `max_box_accuracy(rows)` computes the metric from them, over a data set: for each of the
    overlaps 0.3, 0.5 and 0.7 the fraction of images with at least that overlap, at the best
    threshold, and the mean of the three. It says how good a map could be with the best threshold,
    so it is higher than `localization` with a threshold from other images, and cannot be compared
    with it. A map of many specks has many boxes, one of which may be right by chance. NaN where the
    image has no box.

    Args:
        thresholds: Fractions of the way from the map's smallest value to its largest, in [0, 1].
            The authors' code has 1000 of them; more can only raise the value.

    Raises:
        InputError: There is no threshold, one is out of range, or there are duplicates.

    Example:
        >>> metric = MaxBoxAccV2(thresholds=(0.2, 0.6))
        >>> metric.higher_is_better
        True

    References:
        Choe et al. 2020, "Evaluating Weakly Supervised Object Localization Methods Right", and its
        journal version, "Evaluation for Weakly Supervised Object Localization: Protocol, Metrics,
        and Datasets". Their code takes the boxes of holes too.
    """

    thresholds: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(20))

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the thresholds."""
        super().__post_init__()
        check_levels(self, "range", self.thresholds)
        if not self.thresholds or len(set(self.thresholds)) < len(self.thresholds):
            raise InputError(f"{self} takes one or more different thresholds.")

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """The best overlap at each threshold, `overlap@0.25`, in [0, 1]. No query."""
        names = [f"overlap@{level:g}" for level in self.thresholds]
        if sample.boxes is None:
            return dict.fromkeys(names, missing(mask))
        scores, last = {}, (mask.new_full((len(mask),), -1), missing(mask))
        for name, level in zip(names, self.thresholds, strict=True):
            inside = thresholded(mask, "range", level)
            sizes = inside.count_nonzero((1, 2, 3)).to(mask.dtype)
            # masks of one map with equally many pixels are the same
            changed = (sizes != last[0]).nonzero().flatten()
            overlaps = last[1].clone()
            if len(changed):
                boxes = component_boxes(inside[changed])
                truth = [sample.boxes[i] for i in changed.tolist()]
                best = [some.max() for some in best_overlaps(boxes, truth, mask.dtype)]
                overlaps[changed] = torch.stack(best)
            last = sizes, overlaps
            scores[name] = overlaps
        return scores


def max_box_accuracy(
    rows: Iterable[Mapping[str, float | None]],
    *,
    column: str = "max-box-acc-v2/overlap",
    overlaps: Sequence[float] = (0.3, 0.5, 0.7),
) -> dict[str, float]:
    """MaxBoxAccV2 of one masker over a data set, from its rows.

    Args:
        rows: The scores by name of one masker's images, as `scores` in a run's `rows.jsonl`; None
            and NaN are skipped.
        column: The name of the columns before the `@`.
        overlaps: The required intersections over union, each in (0, 1].

    Returns:
        By overlap (`"0.5"` is MaxBoxAcc's) the fraction of images at the best threshold, in [0, 1];
        and `mean`, MaxBoxAccV2.

    Raises:
        InputError: There is no such column, or no value in it.

    Example:
        >>> rows = [{"max-box-acc-v2/overlap@0.2": 0.4, "max-box-acc-v2/overlap@0.6": 0.6}]
        >>> {name: round(value, 2) for name, value in max_box_accuracy(rows).items()}
        {'0.3': 1.0, '0.5': 1.0, '0.7': 0.0, 'mean': 0.67}
    """
    values = by_threshold(rows, column)
    if not values:
        raise InputError(
            f"max_box_accuracy: no value in columns {column}@...; evaluate max-box-acc-v2 on "
            "images with bounding boxes."
        )
    accuracies = {
        f"{least:g}": max(sum(v >= least for v in some) / len(some) for some in values.values())
        for least in overlaps
    }
    return {**accuracies, "mean": sum(accuracies.values()) / len(accuracies)}
