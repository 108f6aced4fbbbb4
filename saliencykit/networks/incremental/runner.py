"""Running a cone: the changed rectangles alone are computed, pasted into what the unchanged picture
gave.
"""

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
from saliencykit.networks.incremental.trace import PerPicture


@final
@dataclass(eq=False)
class Runner:
    """The recorded calls, with tables of what the unchanged picture gives where a cone needs it.

    Args:
        plan: What to compute.
        cones: All that will be run: they say how large the tables are.
    """

    plan: ConePlan
    cones: list[Cone]
    _tables: dict[fx.Node, Tensor] = field(default_factory=dict)
    _means: dict[fx.Node, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the static values into the calls; count for each value who reads it last."""
        static = self.plan.trace.static
        self._calls = {}
        self._last: dict[fx.Node, list[fx.Node]] = {}
        seen = {self.plan.trace.answer}
        for node, maps in reversed(self.plan.calls.items()):
            arguments = map_aggregate(
                (node.args, node.kwargs),
                lambda a: static.get(a, a) if isinstance(a, fx.Node) else a,
            )
            self._calls[node] = (node.target, *arguments)
            self._last[node] = [n for n in maps if n not in seen]
            seen.update(maps)
        self._capacity: dict[fx.Node, int] = {}
        for cone in self.cones:
            for node, rows in cone.crop_rows.items():
                self._capacity[node] = max(rows, self._capacity.get(node, 0))
        self._mean_nodes = {
            s.node for cone in self.cones for s in cone.steps if isinstance(s.rule, Mean)
        }

    def whole(self, image: Images) -> Logits:
        """The answer to the unchanged picture, (1, K), whose maps fill the tables."""
        values: dict[fx.Node, Any] = {}
        self._keep(self.plan.trace.picture, image)
        values[self.plan.trace.picture] = image * 1
        for node in self.plan.calls:
            values[node] = self._call(node, values, 1)
            self._keep(node, values[node])
            for old in self._last[node]:
                values.pop(old, None)
        answer: Tensor = values[self.plan.trace.answer]
        return answer

    def changed(self, cone: Cone, crops: Images) -> Logits:
        """The answers to the pictures whose rectangles `cone.picture` are `crops`, (n, K)."""
        count = len(crops)
        values: dict[fx.Node, Any] = {self.plan.trace.picture: crops}
        pasted: set[fx.Node] = set()
        for step in cone.steps:
            local = self._read(step, values, pasted)
            values[step.node] = self._made(step, local, count)
            for old in self._last[step.node]:
                values.pop(old, None)
        answer: Tensor = values[self.plan.trace.answer]
        return answer

    def _made(self, step: ConeStep, read: dict[fx.Node, Any], count: int) -> Any:
        rule = step.rule
        if isinstance(rule, Sliding):
            made = rule.on_patch(read[rule.source])
            if step.places is not None:
                assert rule.divisor is not None
                divisor = rule.divisor.flatten().index_select(0, step.places)
                made = made / divisor.to(made.dtype).view(count, 1, *made.shape[2:])
            return made
        if isinstance(rule, Mean):
            return read[rule.source]
        return self._call(step.node, read, count)

    def _read(
        self, step: ConeStep, values: dict[fx.Node, Any], pasted: set[fx.Node]
    ) -> dict[fx.Node, Any]:
        """What the call reads: maps as they are, or patches of them."""
        read = {}
        for source, patch in step.reads.items():
            value = values[source]
            if patch is None:
                read[source] = value
            elif isinstance(step.rule, Mean):
                layout = self.plan.layouts[source]
                change = (value - self._patch(source, patch)).sum((layout.rows, layout.rows + 1))
                mean = self._means[step.node]
                height, width = layout.size(source.meta["shape"])
                read[source] = mean + (change / (height * width)).view(len(change), *mean.shape[1:])
            else:
                if source not in pasted:
                    rows = _rows(value, self.plan.layouts[source])
                    first = self._places(source) + 2
                    self._tables[source][first : first + len(rows)] = rows
                    pasted.add(source)
                whole = not isinstance(step.rule, Pointwise | Sliding)
                read[source] = self._patch(source, patch, as_recorded=whole)
        return read

    def _patch(self, source: fx.Node, patch: Patch, *, as_recorded: bool = False) -> Tensor:
        made = self._tables[source].index_select(0, patch.index).view(*patch.shape, -1)
        if self.plan.layouts[source] == NHWC:
            return made
        made = made.permute(0, 3, 1, 2)
        return made.contiguous() if as_recorded and not source.meta["channels_last"] else made

    def _call(self, node: fx.Node, values: dict[fx.Node, Any], count: int) -> Any:
        function, args, kwargs = self._calls[node]

        def given(leaf: Any) -> Any:
            if isinstance(leaf, fx.Node):
                return values[leaf]
            return leaf.times * count if isinstance(leaf, PerPicture) else leaf

        return function(*map_aggregate(args, given), **map_aggregate(kwargs, given))

    def _keep(self, node: fx.Node, value: Any) -> None:
        if node in self._mean_nodes:
            self._means[node] = value.clone()
        if node not in self._capacity:
            return
        rows, places = _rows(value, self.plan.layouts[node]), self._places(node)
        if node not in self._tables:
            self._tables[node] = rows.new_empty(places + 2 + self._capacity[node], rows.shape[1])
            self._tables[node][places] = 0
            self._tables[node][places + 1] = float("-inf")
        self._tables[node][:places] = rows

    def _places(self, node: fx.Node) -> int:
        height, width = self.plan.layouts[node].size(node.meta["shape"])
        return height * width


def _rows(value: Tensor, layout: AxisLayout) -> Tensor:
    """A map as (places, channels); a view of a tensor in channels_last."""
    return (value if layout == NHWC else value.permute(0, 2, 3, 1)).reshape(
        -1, value.shape[layout.channels]
    )
