"""From a mask to boxes at many thresholds, and how well they lie on the object: choosing among
thresholds is left to the table.

A map is cut by value (a share of its range), by energy (the fewest pixels with a share of its sum)
or at a multiple of its mean. The box is the tightest around all that is left, or around its largest
connected component; around nothing it is the whole photo.
"""

from typing import Any

import numpy as np
import torch

from saliencykit.metrics import LEVELS, Components, Rule, best_overlaps, boxes_at

RULES: dict[str, Rule] = {"value": "range", "energy": "energy", "mean": "mean"}
"""The names in the tables, and what the package calls them."""
CUTS = tuple((name, level) for name, rule in RULES.items() for level in LEVELS[rule])
_SHOWN = {"value": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), "mean": (1.0, 1.5)}
CROPS = tuple((rule, level) for rule, levels in _SHOWN.items() for level in levels)
"""The cuts whose boxes the classifier is shown, for the saliency metric: each costs an evaluation.
"""
MODES: tuple[Components, ...] = ("all", "largest")
HALF = CUTS.index(("value", 0.5))

Map = np.ndarray[Any, np.dtype[Any]]
Box = tuple[int, int, int, int]


def boxes_of(values: Map, modes: tuple[Components, ...] = MODES) -> dict[str, list[Box]]:
    """By mode (`all`, `largest`): the boxes of all the CUTS of a map (H, W)."""
    maps = torch.from_numpy(values)[None, None]
    found = {
        mode: torch.cat([boxes_at(maps, rule, LEVELS[rule], mode)[0] for rule in RULES.values()])
        for mode in modes
    }
    return {
        mode: [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist()]
        for mode, boxes in found.items()
    }


def best_overlap(bbox: Box, truth: Map) -> float:
    """The largest intersection over union of a box with one of the boxes (n, 4)."""
    (best,) = best_overlaps([torch.tensor([bbox])], [torch.from_numpy(truth)], torch.float64)
    return float(best)
