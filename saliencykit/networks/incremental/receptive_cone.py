"""The receptive cone of a group of windows: which rectangle of each map they can change."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, fx

from saliencykit.networks.incremental.filled_windows import Windows
from saliencykit.networks.incremental.propagation_rules import (
    AxisLayout,
    Mean,
    Pointwise,
    PropagationRule,
    Sliding,
)
from saliencykit.networks.incremental.regions import IntArray, Region, reached_span, region_around
from saliencykit.networks.incremental.rule_inference import infer_rules
from saliencykit.networks.incremental.trace import Trace

# a changed fraction of a map beyond which all of it is computed: pasting costs more than it saves
_WHOLE = 0.8
_COPY_COST = 4  # multiplications that take as long as reading and writing one number


@final
@dataclass(frozen=True, eq=False)
class Patch:
    """Where the values of a rectangle come from that is partly in a changed crop: rows of a table.

    The table has the positions of the unchanged map, one row of zeros, one of -inf, then the
    positions of the crops.
    """

    index: Tensor
    shape: tuple[int, int, int]


@final
@dataclass(frozen=True, eq=False)
class ConeStep:
    """One call of the cone.

    Attributes:
        node: The call.
        rule: None: on whole maps.
        reads: For each map that the call reads the patch to make first, or None: as it is.
        positions: Of the output, in a flattened map, for a divisor that differs between them.
    """

    node: fx.Node
    rule: PropagationRule | None
    reads: dict[fx.Node, Patch | None]
    positions: Tensor | None = None


@final
@dataclass(eq=False)
class Cone:
    """The calls that compute the logits of a group of windows, in order.

    Attributes:
        windows: Their numbers.
        image: The rectangle of the image that each changes.
        steps: The calls.
        crop_rows: The rows that the crops of a map take in its table.
        largest: How many numbers the largest tensor holds.
        cost: Multiplications per window, roughly.
        whole_cost: Those of a full pass.
    """

    windows: Sequence[int]
    image: Region
    steps: list[ConeStep] = field(default_factory=list)
    crop_rows: dict[fx.Node, int] = field(default_factory=dict)
    largest: int = 0
    cost: float = 0.0
    whole_cost: float = 0.0


@final
class ConePlan:
    """What is known of each call of a trace before any window is."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        weights = next(iter(trace.static.values()), None)
        self.device = torch.device("cpu") if weights is None else weights.device
        self.rules, self.layouts = infer_rules(trace)
        self.calls = {
            node: [n for n in node.all_input_nodes if n not in trace.static]
            for node in trace.graph.nodes
            if node.op == "call_function" and node not in trace.static
        }
        self.sizes = {node: _size(node, layout) for node, layout in self.layouts.items()}
        self.work = {node: _work(node, trace) for node in self.calls}


def build_cone(plan: ConePlan, windows: Windows, which: IntArray) -> Cone:
    """The cone of the windows with the numbers `which`."""
    height, width, _ = plan.sizes[plan.trace.image]
    down = (windows.top[which], windows.bottom[which])
    across = (windows.left[which], windows.right[which])
    image = region_around(down, across, height, width)
    cone = Cone(which.tolist(), image, whole_cost=sum(plan.work.values()))
    builder = _ConeBuilder(plan, cone, {plan.trace.image: image})
    for node in plan.calls:
        builder.add(node)
    return cone


@final
@dataclass(eq=False)
class _ConeBuilder:
    plan: ConePlan
    cone: Cone
    changed: dict[fx.Node, Region]
    patches: dict[tuple[Any, ...], Patch] = field(default_factory=dict)

    def add(self, node: fx.Node) -> None:
        """Decide how this call is made."""
        rule, maps, work = self.plan.rules.get(node), self.plan.calls[node], self.plan.work[node]
        local = rule is not None and all(n in self.changed for n in maps)
        if local and isinstance(rule, Mean):
            before = self._patch(rule.source, self.changed[rule.source], with_crops=False)
            self._append(ConeStep(node, rule, {rule.source: before}), 0.0)
            return
        region = self._changed_by(node, rule) if local else None
        if region is None:
            self.cone.largest = max(self.cone.largest, prod(node.meta["shape"] or (1,)))
            reads = {n: self._patch(n, self._whole(n)) if n in self.changed else None for n in maps}
            self._append(ConeStep(node, None, reads), work)
            return
        self.changed[node] = region
        height, width, channels = self.plan.sizes[node]
        area = region.height * region.width
        self.cone.largest = max(self.cone.largest, channels * area)
        self._append(self._local(node, rule, region), work * area / (height * width))

    def _changed_by(self, node: fx.Node, rule: PropagationRule | None) -> Region | None:
        """The rectangle that this call changes; None if that is about the whole map."""
        if isinstance(rule, Pointwise):
            regions = [self.changed[n] for n in rule.sources]
            if all(regions[0].equals(other) for other in regions[1:]):
                return regions[0]
            starts, ends = np.minimum.reduce, np.maximum.reduce
            spans = [region.spans() for region in regions]
            down, across = (
                (starts([s[axis][0] for s in spans]), ends([s[axis][1] for s in spans]))
                for axis in (0, 1)
            )
        else:
            assert isinstance(rule, Sliding)
            source = self.changed[rule.source]
            if rule.keeps_positions:
                return source
            sides = zip(source.spans(), rule.extent, rule.stride, rule.padding, strict=True)
            down, across = (reached_span(*side) for side in sides)
        height, width, _ = self.plan.sizes[node]
        region = region_around(down, across, height, width)
        return None if region.height * region.width > _WHOLE * height * width else region

    def _local(self, node: fx.Node, rule: PropagationRule | None, region: Region) -> ConeStep:
        if isinstance(rule, Pointwise):
            same = {n: self.changed[n].equals(region) for n in rule.sources}
            reads = {n: None if same[n] else self._patch(n, region) for n in rule.sources}
            return ConeStep(node, rule, reads)
        assert isinstance(rule, Sliding)
        if rule.keeps_positions:
            return ConeStep(node, rule, {rule.source: None})
        needed = Region(
            (region.height - 1) * rule.stride[0] + rule.extent[0],
            (region.width - 1) * rule.stride[1] + rule.extent[1],
            region.top * rule.stride[0] - rule.padding[0],
            region.left * rule.stride[1] - rule.padding[1],
        )
        positions = None
        if rule.divisor is not None:
            height, width, _ = self.plan.sizes[node]
            flat = region.positions(height, width, 0).flatten()
            positions = torch.from_numpy(flat).to(self.plan.device)
        patch = self._patch(rule.source, needed, lowest=rule.pad_lowest)
        return ConeStep(node, rule, {rule.source: patch}, positions)

    def _patch(
        self, source: fx.Node, region: Region, *, lowest: bool = False, with_crops: bool = True
    ) -> Patch:
        corners = (region.top.tobytes(), region.left.tobytes())
        key = (source, region.height, region.width, lowest, with_crops, *corners)
        if key in self.patches:
            return self.patches[key]
        height, width, _ = self.plan.sizes[source]
        crop, count = self.changed[source], len(region.top)
        index = region.positions(height, width, height * width + lowest)
        if with_crops:
            inner = Region(
                region.height, region.width, region.top - crop.top, region.left - crop.left
            ).positions(crop.height, crop.width, -1)
            first = height * width + 2 + np.arange(count) * (crop.height * crop.width)
            index = np.where(inner >= 0, first[:, None, None] + inner, index)
        self.cone.crop_rows[source] = count * crop.height * crop.width
        tensor = torch.from_numpy(index.astype(np.int32).ravel()).to(self.plan.device)
        self.patches[key] = Patch(tensor, (count, region.height, region.width))
        return self.patches[key]

    def _whole(self, node: fx.Node) -> Region:
        height, width, _ = self.plan.sizes[node]
        zeros = np.zeros(len(self.cone.windows), np.int64)
        return Region(height, width, zeros, zeros)

    def _append(self, step: ConeStep, cost: float) -> None:
        for source, patch in step.reads.items():
            if patch is not None:
                numbers = patch.shape[1] * patch.shape[2] * self.plan.sizes[source][2]
                self.cone.largest = max(self.cone.largest, numbers)
                cost += 2 * _COPY_COST * numbers
        self.cone.cost += cost
        self.cone.steps.append(step)


def _size(node: fx.Node, layout: AxisLayout) -> tuple[int, int, int]:
    """Height, width and channels of a map; of a tuple of maps those of what it was made from."""
    while node.meta["shape"] is None:
        node = node.all_input_nodes[0]
    shape = node.meta["shape"]
    return (*layout.size(shape), shape[layout.channels])


def _work(node: fx.Node, trace: Trace) -> float:
    """Multiplications for one image, roughly; copying a number counts a few."""
    if node.meta["shape"] is None:
        return 0.0
    weight = next((trace.static[n] for n in node.all_input_nodes[1:] if n in trace.static), None)
    name = getattr(node.target, "__name__", "")
    dense = weight is not None and name in ("conv2d", "linear")
    per_output = weight[0].numel() if dense and weight is not None else 0
    return (_COPY_COST + per_output) * float(prod(node.meta["shape"]))
