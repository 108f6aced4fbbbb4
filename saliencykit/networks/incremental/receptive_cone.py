"""The cone of a group of windows: which rectangle of each map they can change."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from saliencykit.networks.incremental.propagation_rules import (
    AxisLayout,
    Mean,
    Pointwise,
    PropagationRule,
    Sliding,
    rules_of,
)
from saliencykit.networks.incremental.trace import Trace

Numbers = NDArray[np.int64]
# a changed share of a map beyond which all of it is computed: pasting costs more than it saves
_WHOLE = 0.8
_MOVING = 4  # multiplications that reading and writing one number takes as long as


@final
@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of equal size for each of n windows, anywhere; `top` and `left` are (n,)."""

    height: int
    width: int
    top: Numbers
    left: Numbers

    def equals(self, other: "Region") -> bool:
        """Are they the same rectangles?"""
        return self is other or (
            (self.height, self.width) == (other.height, other.width)
            and bool((self.top == other.top).all() and (self.left == other.left).all())
        )


@final
@dataclass(frozen=True, eq=False)
class Patch:
    """Where the pixels of a rectangle come from that is partly in a changed crop: rows of a table.

    The table has the places of the unchanged map, one row of zeros, one of -inf, then the places of
    the crops.
    """

    index: Tensor
    shape: tuple[int, int, int]


@final
@dataclass(frozen=True, eq=False)
class ConeStep:
    """One call: its rule (None: on whole maps), and for each map that it reads the patch to make
    first, or None: as it is.
    """

    node: fx.Node
    rule: PropagationRule | None
    reads: dict[fx.Node, Patch | None]
    places: Tensor | None = (
        None  # of the answer, in a flattened map, for what differs from place to place
    )


@final
@dataclass(eq=False)
class Cone:
    """The calls that answer for a group of windows, in order; which windows; and the numbers that
    the largest tensor holds.
    """

    windows: Sequence[int]
    picture: Region
    steps: list[ConeStep] = field(default_factory=list)
    crop_rows: dict[fx.Node, int] = field(default_factory=dict)
    largest: int = 0
    cost: float = 0.0
    whole_cost: float = 0.0


@final
@dataclass(frozen=True, eq=False)
class Windows:
    """Rectangles of the picture, in pixels, ends excluded; four arrays (n,)."""

    top: Numbers
    bottom: Numbers
    left: Numbers
    right: Numbers

    def __len__(self) -> int:
        return len(self.top)

    def slices(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each."""
        ends = zip(
            *(end.tolist() for end in (self.top, self.bottom, self.left, self.right)), strict=True
        )
        return [(slice(top, bottom), slice(left, right)) for top, bottom, left, right in ends]


@final
class ConePlan:
    """A recorded box, and what is known of each call before any window is.

    Args:
        trace: The calls.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.device = (
            next(iter(trace.static.values())).device if trace.static else torch.device("cpu")
        )
        self.rules, self.layouts = rules_of(trace)
        self.calls = {
            n: [m for m in n.all_input_nodes if m not in trace.static]
            for n in trace.graph.nodes
            if _dynamic(n, trace)
        }
        self.sizes = {node: _size(node, layout) for node, layout in self.layouts.items()}
        self.work = {node: _work(node, trace) for node in self.calls}

    @property
    def picture(self) -> fx.Node:
        """The node of the raw images."""
        return self.trace.picture


def cone_of(plan: ConePlan, windows: Windows, which: Numbers) -> Cone:
    """The cone of the windows with the numbers `which`."""
    height, width, _ = plan.sizes[plan.picture]
    picture = _box(
        (windows.top[which], windows.bottom[which]),
        (windows.left[which], windows.right[which]),
        height,
        width,
    )
    cone = Cone(which.tolist(), picture, whole_cost=sum(plan.work.values()))
    builder = _Builder(plan, cone, {plan.picture: picture})
    for node in plan.calls:
        builder.add(node)
    return cone


@final
@dataclass(eq=False)
class _Builder:
    plan: ConePlan
    cone: Cone
    boxes: dict[fx.Node, Region]
    made: dict[tuple[Any, ...], Patch] = field(default_factory=dict)

    def add(self, node: fx.Node) -> None:
        """Decide how this call is made."""
        rule, maps, work = self.plan.rules.get(node), self.plan.calls[node], self.plan.work[node]
        local = rule is not None and all(n in self.boxes for n in maps)
        if local and isinstance(rule, Mean):
            self._step(
                ConeStep(
                    node,
                    rule,
                    {rule.source: self._patch(rule.source, self.boxes[rule.source], changed=False)},
                ),
                0.0,
            )
            return
        bbox = self._box_of(node, rule) if local else None
        if bbox is None:
            self.cone.largest = max(self.cone.largest, prod(node.meta["shape"] or (1,)))
            self._step(
                ConeStep(
                    node,
                    None,
                    {n: self._patch(n, self._whole(n)) if n in self.boxes else None for n in maps},
                ),
                work,
            )
            return
        self.boxes[node] = bbox
        height, width, channels = self.plan.sizes[node]
        self.cone.largest = max(self.cone.largest, channels * bbox.height * bbox.width)
        self._step(
            self._local(node, rule, bbox), work * bbox.height * bbox.width / (height * width)
        )

    def _box_of(self, node: fx.Node, rule: PropagationRule | None) -> Region | None:
        """The rectangle that this call changes; None if that is about all."""
        if isinstance(rule, Pointwise):
            boxes = [self.boxes[n] for n in rule.sources]
            if all(boxes[0].equals(other) for other in boxes[1:]):
                return boxes[0]
            tops, lefts = np.stack([b.top for b in boxes]), np.stack([b.left for b in boxes])
            bottoms, rights = (
                np.stack([b.top + b.height for b in boxes]),
                np.stack([b.left + b.width for b in boxes]),
            )
            down, across = (tops.min(0), bottoms.max(0)), (lefts.min(0), rights.max(0))
        else:
            assert isinstance(rule, Sliding)
            source = self.boxes[rule.source]
            if rule.in_place:
                return source
            down = _reached(
                source.top, source.height, rule.extent[0], rule.stride[0], rule.padding[0]
            )
            across = _reached(
                source.left, source.width, rule.extent[1], rule.stride[1], rule.padding[1]
            )
        height, width, _ = self.plan.sizes[node]
        bbox = _box(down, across, height, width)
        return None if bbox.height * bbox.width > _WHOLE * height * width else bbox

    def _local(self, node: fx.Node, rule: PropagationRule | None, bbox: Region) -> ConeStep:
        if isinstance(rule, Pointwise):
            reads = {
                n: None if self.boxes[n].equals(bbox) else self._patch(n, bbox)
                for n in rule.sources
            }
            return ConeStep(node, rule, reads)
        assert isinstance(rule, Sliding)
        if rule.in_place:
            return ConeStep(node, rule, {rule.source: None})
        needs = Region(
            (bbox.height - 1) * rule.stride[0] + rule.extent[0],
            (bbox.width - 1) * rule.stride[1] + rule.extent[1],
            bbox.top * rule.stride[0] - rule.padding[0],
            bbox.left * rule.stride[1] - rule.padding[1],
        )
        places = None
        if rule.divisor is not None:
            height, width, _ = self.plan.sizes[node]
            places = _places(bbox, height, width, 0).flatten()
        return ConeStep(
            node,
            rule,
            {rule.source: self._patch(rule.source, needs, lowest=rule.lowest)},
            None if places is None else torch.from_numpy(places).to(self.plan.device),
        )

    def _patch(
        self, source: fx.Node, bbox: Region, *, lowest: bool = False, changed: bool = True
    ) -> Patch:
        height, width, _ = self.plan.sizes[source]
        crop = self.boxes[source]
        key = (
            source,
            bbox.height,
            bbox.width,
            lowest,
            changed,
            bbox.top.tobytes(),
            bbox.left.tobytes(),
        )
        if key not in self.made:
            index = _places(bbox, height, width, height * width + lowest)
            rows = np.arange(bbox.height)[None] + (bbox.top - crop.top)[:, None]
            columns = np.arange(bbox.width)[None] + (bbox.left - crop.left)[:, None]
            if changed:
                first = height * width + 2 + np.arange(len(bbox.top)) * (crop.height * crop.width)
                inside_y, inside_x = (
                    (rows >= 0) & (rows < crop.height),
                    (columns >= 0) & (columns < crop.width),
                )
                own = (first[:, None] + rows * crop.width)[:, :, None] + columns[:, None]
                index = np.where(inside_y[:, :, None] & inside_x[:, None], own, index)
            self.cone.crop_rows[source] = len(bbox.top) * crop.height * crop.width
            tensor = torch.from_numpy(index.astype(np.int32).ravel()).to(self.plan.device)
            self.made[key] = Patch(tensor, (len(bbox.top), bbox.height, bbox.width))
        return self.made[key]

    def _whole(self, node: fx.Node) -> Region:
        height, width, _ = self.plan.sizes[node]
        zeros = np.zeros(len(self.cone.windows), np.int64)
        return Region(height, width, zeros, zeros)

    def _step(self, step: ConeStep, cost: float) -> None:
        for source, patch in step.reads.items():
            if patch is not None:
                numbers = patch.shape[1] * patch.shape[2] * self.plan.sizes[source][2]
                self.cone.largest = max(self.cone.largest, numbers)
                cost += 2 * _MOVING * numbers
        self.cone.cost += cost
        self.cone.steps.append(step)


def _dynamic(node: fx.Node, trace: Trace) -> bool:
    return node.op == "call_function" and node not in trace.static


def _size(node: fx.Node, layout: AxisLayout) -> tuple[int, int, int]:
    """Height, width and channels of a map; of a tuple of maps those of what it was made from."""
    while node.meta["shape"] is None:
        node = node.all_input_nodes[0]
    shape = node.meta["shape"]
    return (*layout.size(shape), shape[layout.channels])


def _work(node: fx.Node, trace: Trace) -> float:
    """Multiplications for one picture, roughly; a call that only moves numbers counts a little for
    each.
    """
    if node.meta["shape"] is None:
        return 0.0
    weight = next((trace.static[n] for n in node.all_input_nodes[1:] if n in trace.static), None)
    heavy = (
        weight is not None
        and callable(node.target)
        and node.target.__name__ in ("conv2d", "linear")
    )
    return (_MOVING + (weight[0].numel() if heavy and weight is not None else 0)) * float(
        prod(node.meta["shape"])
    )


def _box(
    down: tuple[Numbers, Numbers], across: tuple[Numbers, Numbers], height: int, width: int
) -> Region:
    """Rectangles of equal size around these spans, moved inwards where they would leave the map."""
    tops, lefts = np.clip(down[0], 0, height - 1), np.clip(across[0], 0, width - 1)
    tall = max(1, int((np.clip(down[1], 0, height) - tops).max()))
    wide = max(1, int((np.clip(across[1], 0, width) - lefts).max()))
    return Region(tall, wide, np.minimum(tops, height - tall), np.minimum(lefts, width - wide))


def _reached(
    first: Numbers, length: int, extent: int, stride: int, padding: int
) -> tuple[Numbers, Numbers]:
    """The places of the answer whose small rectangle meets `length` places from `first` on, ends
    excluded.
    """
    return -((extent - 1 - padding - first) // stride), (first + length - 1 + padding) // stride + 1


def _places(bbox: Region, height: int, width: int, outside: int) -> Numbers:
    """The places of each rectangle in a flattened map, (n, h, w); `outside` where there is no map."""
    rows = np.arange(bbox.height)[None] + bbox.top[:, None]
    columns = np.arange(bbox.width)[None] + bbox.left[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None
    ]
    return np.where(inside, (rows * width)[:, :, None] + columns[:, None], outside)
