"""What one row says of one photo under a threshold; and the threshold of each method, chosen on the
rows of the tuning part.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log, nan

import numpy as np

from benchmarks.localization import CROPS, CUTS, HALF, MODES
from benchmarks.rows import Row
from benchmarks.scoring import SHARES, UNSEEN
from benchmarks.split import SIZES

FLOOR = 0.05  # of the saliency metric: smaller crops count as this


@dataclass(frozen=True)
class Tuned:
    """What was chosen for one method on `count` photos of the tuning part.

    Attributes:
        cut: By mode: the cut with the lowest localization error, an index into CUTS.
        mode: The mode whose cut is the better one.
        crop: By mode: the crop with the lowest mean saliency metric, an index into CROPS.
        count: Photos that it was chosen on; 0: nothing was there, and half of the range is taken.
    """

    cut: dict[str, int]
    mode: str
    crop: dict[str, int]
    count: int

    def missed(self, row: Row) -> float:
        """Does the box of the better mode miss the object?"""
        return missed(row, self.mode, self.cut[self.mode])


def missed(row: Row, mode: str, cut: int) -> float:
    """1 where no object's box overlaps the mask's box by half (intersection over union), else 0."""
    return float(row["overlap"][mode][cut] < 0.5)


def metric(row: Row, mode: str, crop: int) -> float:
    """The saliency metric, `log(max(area, 0.05)) - log p`; its mean over ground-truth boxes."""
    crops = row.get("truth_crops") or [row["crops"][mode][crop]]
    return sum(log(max(area, FLOOR)) - log_p for area, log_p, _ in crops) / len(crops)


def searched(row: Row) -> float:
    """The saliency metric of the best of the crops that were searched on this photo; NaN without a
    search.
    """
    crops = row.get("searched", [])
    return min((log(max(area, FLOOR)) - log_p for area, log_p, _ in crops), default=nan)


def crop_facts(row: Row, mode: str, crop: int) -> tuple[float, float]:
    """The crop's area, and whether its top class is the label; means over ground-truth boxes."""
    crops = row.get("truth_crops") or [row["crops"][mode][crop]]
    return sum(area for area, _, _ in crops) / len(crops), sum(
        right for _, _, right in crops
    ) / len(crops)


def graded(row: Row, fills: Iterable[str], side: int) -> float:
    """Mean over fills of the kept (side 0) or dropped (side 1) probability of the mask as it is."""
    values = [row["graded"][fill][side] for fill in fills]
    return float(sum(values) / len(values))


def at_area(row: Row, area: float, side: int, fills: Iterable[str] = UNSEEN) -> float:
    """Mean over fills of the kept (0) or dropped (1) probability of the best pixels; NaN where this
    photo lacks it.
    """
    keys = [f"{fill}/{area}" for fill in fills]
    there = row.get("areas", {})
    return (
        float(sum(there[key][side] for key in keys) / len(keys))
        if all(key in there for key in keys)
        else nan
    )


def gap(row: Row, area: float, fills: Iterable[str] = UNSEEN) -> float:
    """Kept less dropped probability of the best pixels."""
    fills = tuple(fills)
    return at_area(row, area, 0, fills) - at_area(row, area, 1, fills)


def under_curve(row: Row, name: str) -> float:
    """Area under the insertion or deletion curve, straight lines between its points; NaN where this
    photo lacks it.
    """
    heights = np.asarray(row.get(name, [nan] * len(SHARES)))
    return float((np.diff(SHARES) * (heights[1:] + heights[:-1]) / 2).sum())


def size_group(row: Row) -> int:
    """0 (objects below 15 % of the photo) to 3 (above 70 %)."""
    return sum(row["object"] >= limit for limit in SIZES)


def right(row: Row) -> bool:
    """Is the classifier's own answer for the whole photo the true class?"""
    return bool(row["top"] == row["label"])


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each method, methods and photos in the order in which they come."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["method"]].append(row)
    return dict(found)


def tuned(rows: list[Row]) -> Tuned:
    """The choices for one method; of equal thresholds the one in the middle of the first run of
    them.
    """
    half, middle = (dict.fromkeys(MODES, at) for at in (HALF, CROPS.index(("value", 0.5))))
    if not rows:
        return Tuned(half, "all", middle, 0)

    def best(score: Callable[[Row, str, int], float], mode: str, count: int) -> tuple[int, float]:
        means = [sum(score(row, mode, index) for row in rows) / len(rows) for index in range(count)]
        first = end = means.index(min(means))
        while end + 1 < count and means[end + 1] == means[first]:
            end += 1
        return (first + end) // 2, means[first]

    cuts = {mode: best(missed, mode, len(CUTS)) for mode in rows[0]["overlap"]}
    mode = min(cuts, key=lambda mode: cuts[mode][1])
    if "crops" in rows[0]:
        middle = {mode: best(metric, mode, len(CROPS))[0] for mode in MODES}
    return Tuned({m: cut for m, (cut, _) in cuts.items()}, mode, middle, len(rows))
