"""Thresholding: from a map to binary masks, connected components and bounding boxes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy.ndimage import find_objects, label  # type: ignore[import-untyped]
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.geometry import boxes_of_sides, tight_boxes
from saliencykit.core.types import Mask, PerImage

Rule: TypeAlias = Literal["value", "range", "energy", "mean"]
Components: TypeAlias = Literal["all", "largest"]

LEVELS: Mapping[Rule, tuple[float, ...]] = {
    "value": tuple(round(0.05 * step, 2) for step in range(1, 20)),
    "range": tuple(round(0.05 * step, 2) for step in range(1, 20)),
    "energy": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "mean": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0),
}
"""By rule: thresholds to choose from on a separate split of the data."""


def check_levels(who: object, rule: Rule, levels: Sequence[float]) -> None:
    """Check that these are thresholds of that rule.

    Args:
        who: The metric, for the message.
        rule: See `thresholded`.
        levels: The thresholds.

    Raises:
        InputError: They are not.
    """
    if rule not in LEVELS:
        raise InputError(f"{who}: unknown rule {rule!r}; write one of {', '.join(LEVELS)}.")
    most = float("inf") if rule == "mean" else 1.0
    if any(not 0 <= level <= most for level in levels):
        raise InputError(f"{who}: thresholds of the rule {rule!r} must be in [0, {most}].")


def threshold_values(maps: Mask, rule: Rule, levels: Sequence[float]) -> Tensor:
    """The value that a pixel must reach at each threshold, (B, T); infinite for `energy` of an
    empty map.

    Args:
        maps: (B, 1, H, W), >= 0.
        rule: See `thresholded`.
        levels: T thresholds in [0, 1]; for `mean` >= 0.
    """
    thresholds = maps.new_tensor(levels)
    if rule == "value":
        return thresholds.expand(len(maps), -1)
    flat = maps.flatten(1)
    if rule == "range":
        low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
        return low + thresholds * (high - low)
    if rule == "mean":
        return thresholds * flat.mean(1, keepdim=True)
    ranked = flat.sort(1, descending=True).values
    sums = ranked.double().cumsum(1)
    total = sums[:, -1:]
    fractions = torch.tensor(levels, dtype=torch.float64, device=maps.device)
    last = torch.searchsorted(sums, fractions * total).clamp_max(ranked.shape[1] - 1)
    return ranked.gather(1, last).where(total > 0, float("inf"))


def thresholded(maps: Mask, rule: Rule, level: float) -> Tensor:
    """The pixels of each map that reach a threshold, (B, 1, H, W) bool.

    Args:
        maps: (B, 1, H, W) in [0, 1].
        rule: `value`: the threshold itself. `range`: that fraction of the way from the map's
            smallest value to its largest. `mean`: that many times the map's mean. `energy`: such
            that the fewest pixels with at least that fraction of the map's sum reach it.
        level: The threshold.

    Example:
        >>> thresholded(torch.tensor([[[[0.5, 0.1, 0.3, 0.1]]]]), "energy", 0.7).tolist()
        [[[[True, False, True, False]]]]
    """
    return maps >= threshold_values(maps, rule, (level,))[:, :, None, None]


def largest_component(inside: Tensor) -> Tensor:
    """The largest connected component of each map, (B, 1, H, W) bool; of equally large ones the
    first, by rows. Pixels that touch at corners are connected.

    Args:
        inside: (B, 1, H, W) bool.

    Example:
        >>> largest_component(torch.tensor([[[[True, False, True, True]]]])).tolist()
        [[[[False, False, True, True]]]]
    """
    rows = []
    for numbers in _components(inside):
        counts = torch.bincount(numbers.flatten())
        counts[0] = 0
        rows.append((numbers == counts.argmax()) & bool(counts.any()))
    return torch.stack(rows)[:, None].to(inside.device)


def boxes_at(maps: Mask, rule: Rule, levels: Sequence[float], components: Components) -> Tensor:
    """The bounding box of each map at each threshold, (B, T, 4) int64: x0, y0, x1, y1 in pixels, x1
    and y1 exclusive.

    Args:
        maps: (B, 1, H, W).
        rule: See `thresholded`.
        levels: T thresholds.
        components: `all`: the box of all pixels that reach the threshold; `largest`: that of their
            largest connected component. Where no pixel does, the box is the whole image.

    Example:
        >>> maps = torch.tensor([[[[0.9, 0.0, 0.6, 0.6]]]])
        >>> boxes_at(maps, "value", (0.5, 0.8), "largest").tolist()
        [[[2, 0, 4, 1], [0, 0, 1, 1]]]
    """
    values = threshold_values(maps, rule, levels)
    if components == "all":  # a column has such a pixel if its largest value is one
        columns, rows = (maps[:, 0].amax(dim)[:, None] >= values[:, :, None] for dim in (1, 2))
        return boxes_of_sides(columns.flatten(0, 1), rows.flatten(0, 1)).view(*values.shape, 4)
    parts = [largest_component(maps >= value[:, None, None, None]) for value in values.unbind(1)]
    return torch.stack([tight_boxes(part) for part in parts], 1)


def component_boxes(inside: Tensor) -> list[Tensor]:
    """The bounding boxes of all connected components of each map, one (n, 4) int64 per map; the
    whole image where there is none.

    Args:
        inside: (B, 1, H, W) bool.

    Example:
        >>> component_boxes(torch.tensor([[[[True, False, True, True]]]]))[0].tolist()
        [[0, 0, 1, 1], [2, 0, 4, 1]]
    """
    height, width = inside.shape[2:]
    found = []
    for numbers in _components(inside):
        slices = find_objects(numbers.numpy())
        boxes = [[x.start, y.start, x.stop, y.stop] for y, x in slices] or [[0, 0, width, height]]
        found.append(torch.tensor(boxes, device=inside.device))
    return found


def best_overlaps(
    boxes: Sequence[Tensor], truth: Sequence[Tensor], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """For each box of each image, its largest intersection over union with a ground-truth box, in
    [0, 1]; NaN where there is none.

    Args:
        boxes: Per image (m, 4).
        truth: Per image (n, 4).
        dtype: Of the result.

    Example:
        >>> truth = torch.tensor([[0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 5.0, 2.0]])
        >>> best_overlaps([torch.tensor([[0, 0, 4, 2]])], [truth])[0].item()
        0.5
    """
    from torchvision.ops import box_iou

    found = []
    for mine, theirs in zip(boxes, truth, strict=True):
        mine = mine.double()
        nothing = torch.full((len(mine),), float("nan"), device=mine.device, dtype=torch.float32)
        best = box_iou(mine, theirs.to(mine)).amax(1) if len(theirs) else nothing
        found.append(best.to(dtype))
    return found


def by_threshold(
    rows: Iterable[Mapping[str, float | None]], column: str
) -> dict[float, list[float]]:
    """The values in the columns `column@0.3` and so on, by threshold, in ascending order.

    Args:
        rows: The scores by name of one masker's images; None and NaN are skipped.
        column: The name before the `@`.

    Example:
        >>> rows = [{"error@0.6": 1.0, "error@0.3": 0.0}, {"error@0.3": None, "overlap": 0.5}]
        >>> by_threshold(rows, "error")
        {0.3: [0.0], 0.6: [1.0]}
    """
    values: dict[float, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            before, at, level = name.rpartition("@")
            if at and before == column and value is not None and value == value:
                values.setdefault(float(level), []).append(value)
    return dict(sorted(values.items()))


def missing(maps: Mask) -> PerImage:
    """NaN for every image, (B,): the score does not apply.

    Args:
        maps: (B, 1, H, W).
    """
    return maps.new_full((len(maps),), float("nan"))


def _components(inside: Tensor) -> list[Tensor]:
    """The connected components of each map, numbered from 1 by rows, 0 outside, (H, W) on the
    CPU.
    """
    corners_too = np.ones((3, 3), dtype=bool)
    maps = inside[:, 0].cpu().numpy()
    return [torch.from_numpy(label(each, structure=corners_too)[0]) for each in maps]
