"""Running a cone: only the changed rectangles are computed, and pasted into the unchanged maps."""

from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor, fx
from torch.fx.node import map_aggregate

from saliencykit.core.types import Images, Logits
from saliencykit.networks.incremental.propagation_rules import (
    NHWC,
    AxisLayout,
    Mean,
    Pointwise,
    Sliding,
)
from saliencykit.networks.incremental.receptive_cone import Cone, ConePlan, ConeStep, Patch
from saliencykit.networks.incremental.trace import BatchMultiple


@final
@dataclass(eq=False)
class Runner:
    """The recorded calls, with tables of the unchanged image's maps where a cone needs them.

    Args:
        plan: What to compute.
        cones: All that will be run: they say how large the tables are.
    """

    plan: ConePlan
    cones: list[Cone]
    _tables: dict[fx.Node, Tensor] = field(default_factory=dict)
    _means: dict[fx.Node, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put static values into the calls, and note which call reads each value last."""
        trace = self.plan.trace
        self._calls = {}
        self._last: dict[fx.Node, list[fx.Node]] = {}
        seen = {trace.logits}

        def constant(leaf: Any) -> Any:
            return trace.static.get(leaf, leaf) if isinstance(leaf, fx.Node) else leaf

        for node, maps in reversed(self.plan.calls.items()):
            self._calls[node] = (node.target, *map_aggregate((node.args, node.kwargs), constant))
            self._last[node] = [n for n in maps if n not in seen]
            seen.update(maps)
        self._capacity: dict[fx.Node, int] = {}
        for cone in self.cones:
            for node, rows in cone.crop_rows.items():
                self._capacity[node] = max(rows, self._capacity.get(node, 0))
        steps = [step for cone in self.cones for step in cone.steps]
        self._mean_nodes = {step.node for step in steps if isinstance(step.rule, Mean)}

    def whole(self, image: Images) -> Logits:
        """The logits of the unchanged image, (1, K), whose maps fill the tables."""
        self._keep(self.plan.trace.image, image)
        values: dict[fx.Node, Any] = {self.plan.trace.image: image * 1}
        for node in self.plan.calls:
            values[node] = self._call(node, values, 1)
            self._keep(node, values[node])
            for old in self._last[node]:
                values.pop(old, None)
        logits: Tensor = values[self.plan.trace.logits]
        return logits

    def changed(self, cone: Cone, crops: Images) -> Logits:
        """The logits of the images whose rectangles `cone.image` are `crops`, (n, K)."""
        values: dict[fx.Node, Any] = {self.plan.trace.image: crops}
        pasted: set[fx.Node] = set()
        for step in cone.steps:
            reads = self._read(step, values, pasted)
            values[step.node] = self._compute(step, reads, len(crops))
            for old in self._last[step.node]:
                values.pop(old, None)
        logits: Tensor = values[self.plan.trace.logits]
        return logits

    def _compute(self, step: ConeStep, reads: dict[fx.Node, Any], count: int) -> Any:
        rule = step.rule
        if isinstance(rule, Mean):
            return reads[rule.source]
        if not isinstance(rule, Sliding):
            return self._call(step.node, reads, count)
        output = rule.on_patch(reads[rule.source])
        if step.positions is not None:
            assert rule.divisor is not None
            divisor = rule.divisor.flatten().index_select(0, step.positions)
            output = output / divisor.to(output.dtype).view(count, 1, *output.shape[2:])
        return output

    def _read(
        self, step: ConeStep, values: dict[fx.Node, Any], pasted: set[fx.Node]
    ) -> dict[fx.Node, Any]:
        """What the call reads: maps as they are, or patches of them."""
        reads = {}
        for source, patch in step.reads.items():
            value, layout = values[source], self.plan.layouts.get(source)
            if patch is None or layout is None:
                reads[source] = value
            elif isinstance(step.rule, Mean):
                change = (value - self._patch(source, patch)).sum((layout.rows, layout.rows + 1))
                mean = self._means[step.node]
                change = change / self._positions(source)
                reads[source] = mean + change.view(len(change), *mean.shape[1:])
            else:
                if source not in pasted:
                    rows = _rows(value, layout)
                    first = self._positions(source) + 2
                    self._tables[source][first : first + len(rows)] = rows
                    pasted.add(source)
                whole = not isinstance(step.rule, Pointwise | Sliding)
                reads[source] = self._patch(source, patch, as_recorded=whole)
        return reads

    def _patch(self, source: fx.Node, patch: Patch, *, as_recorded: bool = False) -> Tensor:
        values = self._tables[source].index_select(0, patch.index).view(*patch.shape, -1)
        if self.plan.layouts[source] == NHWC:
            return values
        values = values.permute(0, 3, 1, 2)
        return values.contiguous() if as_recorded and not source.meta["channels_last"] else values

    def _call(self, node: fx.Node, values: dict[fx.Node, Any], count: int) -> Any:
        function, args, kwargs = self._calls[node]

        def current(leaf: Any) -> Any:
            if isinstance(leaf, fx.Node):
                return values[leaf]
            return leaf.times * count if isinstance(leaf, BatchMultiple) else leaf

        return function(*map_aggregate(args, current), **map_aggregate(kwargs, current))

    def _keep(self, node: fx.Node, value: Any) -> None:
        if node in self._mean_nodes:
            self._means[node] = value.clone()
        if node not in self._capacity:
            return
        rows, count = _rows(value, self.plan.layouts[node]), self._positions(node)
        if node not in self._tables:
            self._tables[node] = rows.new_empty(count + 2 + self._capacity[node], rows.shape[1])
            self._tables[node][count] = 0
            self._tables[node][count + 1] = float("-inf")
        self._tables[node][:count] = rows

    def _positions(self, node: fx.Node) -> int:
        height, width = self.plan.layouts[node].size(node.meta["shape"])
        return height * width


def _rows(value: Tensor, layout: AxisLayout) -> Tensor:
    """A map as (positions, channels); a view of a tensor in channels_last."""
    channels_last = value if layout == NHWC else value.permute(0, 2, 3, 1)
    return channels_last.reshape(-1, value.shape[layout.channels])
