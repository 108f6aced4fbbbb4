"""From a mask to boxes at many thresholds, and how well they lie on the object: choosing among thresholds is left to the table.

A map is cut by value (a share of its range), by energy (the fewest pixels with a share of its sum) or at a multiple of its mean.
The box is the tightest around all that is left, or around its largest connected component; around nothing it is the whole photo.
"""

from typing import Any

import numpy as np

LEVELS = {
    "value": tuple(round(0.05 * step, 2) for step in range(1, 20)),
    "energy": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "mean": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0),
}
"""Rule to its thresholds."""
CUTS = tuple((rule, level) for rule, levels in LEVELS.items() for level in levels)
_SHOWN = {"value": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), "mean": (1.0, 1.5)}
CROPS = tuple((rule, level) for rule, levels in _SHOWN.items() for level in levels)
"""The cuts whose boxes the classifier is shown, for the saliency metric: each costs an evaluation."""
MODES = ("all", "largest")
HALF = CUTS.index(("value", 0.5))

Map = np.ndarray[Any, np.dtype[Any]]
Box = tuple[int, int, int, int]


def cut(values: Map, rule: str, level: float) -> Map:
    """The pixels (H, W) bool that a threshold leaves."""
    if rule == "value":
        low, high = float(values.min()), float(values.max())
        return np.asarray(values >= low + level * (high - low))
    if rule == "mean":
        return np.asarray(values >= level * values.mean())
    ranked = np.sort(values, axis=None)[::-1]
    total = np.cumsum(ranked, dtype=np.float64)
    if total[-1] <= 0:
        return np.zeros_like(values, dtype=bool)
    last = min(int(np.searchsorted(total, level * total[-1])), ranked.size - 1)
    return np.asarray(values >= ranked[last])


def tight_box(inside: Map) -> Box:
    """x0, y0, x1, y1 around the True pixels, x1 and y1 exclusive; the whole map where there are none."""
    rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
    if not len(rows):
        return 0, 0, inside.shape[1], inside.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def largest_component(inside: Map) -> Map:
    """The connected component (touching at corners counts) with most pixels; of equal ones that which begins first."""
    from skimage.measure import label

    parts = label(inside)
    counts = np.bincount(parts.ravel())
    counts[0] = 0
    return np.asarray(parts == counts.argmax()) if counts.any() else inside


def boxes_of(values: Map) -> dict[str, list[Box]]:
    """By mode (`all`, `largest`): the boxes of all the CUTS of a map (H, W)."""
    found: dict[str, list[Box]] = {mode: [] for mode in MODES}
    seen: dict[int, tuple[Box, Box]] = {}  # cuts of one map with as many pixels are the same
    for rule, level in CUTS:
        inside = cut(values, rule, level)
        count = int(inside.sum())
        if count not in seen:
            seen[count] = tight_box(inside), tight_box(largest_component(inside))
        for mode, box in zip(MODES, seen[count], strict=True):
            found[mode].append(box)
    return found


def best_overlap(box: Box, truth: Map) -> float:
    """The largest intersection over union of a box with one of the boxes (n, 4)."""
    width = np.minimum(box[2], truth[:, 2]) - np.maximum(box[0], truth[:, 0])
    height = np.minimum(box[3], truth[:, 3]) - np.maximum(box[1], truth[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    return float((shared / ((box[2] - box[0]) * (box[3] - box[1]) + areas - shared)).max())
