"""The graph of what a black box computes from a picture, recorded as a `torch.fx.Graph` while it
answers.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images

_FACTS = {  # ask a tensor for what does not depend on its numbers
    "__get__", "__hash__", "__len__", "data_ptr", "dim", "element_size", "get_device", "is_complex", "is_contiguous",
    "is_floating_point", "is_same_size", "ndimension", "nelement", "numel", "size", "storage_offset", "stride",
}  # fmt: skip
_NEW = {
    "new_tensor",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
}
# of their second tensor only shape and type matter
_LIKE = {
    "to",
    "type_as",
    "expand_as",
    "view_as",
    "reshape_as",
}


@final
@dataclass(frozen=True)
class PerPicture:
    """A whole number in a recorded call that is so many times the batch size."""

    times: int


@final
class NotUnderstoodError(Exception):
    """Why a box's answers cannot be computed from its graph."""


@final
@dataclass(frozen=True, eq=False)
class Trace:
    """What a box does with a picture.

    Attributes:
        graph: Calls of torch's own functions; a node's `meta` holds `shape`, of its answer to one
            picture (None for a tuple of tensors), and `channels_last`, the memory layout.
        picture: The node that stands for the raw images.
        answer: The node of the logits.
        static: The values of what does not depend on the picture: weights, and what is made of
            them.
    """

    graph: fx.Graph
    picture: fx.Node
    answer: fx.Node
    static: dict[fx.Node, Tensor]


def trace(black_box: BlackBox, image: Images) -> Trace:
    """Record how `black_box` answers.

    The box's own Python code runs, with one picture and with two, under a mode that notes every
    call of a torch function: so any control flow may depend on sizes and settings, which symbolic
    tracing refuses. Whole numbers that double with the batch are taken for the batch size. The box
    is asked about three images.

    Args:
        black_box: Any box that computes with torch.
        image: (1, C, H, W).

    Raises:
        NotUnderstoodError: The code looks at numbers that depend on the picture (so the next
            picture might take another way), or something happens outside of torch functions.
    """
    one, two = _Recorder(image), _Recorder(torch.cat([image, image.flip(-1)]))
    for recorder in (one, two):
        recorder.run(black_box)
    return _merged(one, two)


@final
@dataclass(eq=False)
class _Recorder(TorchFunctionMode):
    images: Images
    graph: fx.Graph = field(default_factory=fx.Graph)
    failure: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self.values: dict[fx.Node, Tensor | None] = {}
        self.nodes: dict[int, fx.Node] = {}
        self.alive: list[Tensor] = []  # an id is a name only as long as its owner lives
        self.depends: set[fx.Node] = set()
        self.images = self.images.clone()
        self.picture = self._enter(self.graph.placeholder("picture"), self.images)
        self.depends.add(self.picture)
        self.answer = self.picture

    def run(self, black_box: BlackBox) -> None:
        with torch.no_grad(), self:
            answer = black_box.logits(self.images)
        if id(answer) not in self.nodes:
            self.failure = self.failure or "the answer was not made by torch functions"
        if self.failure:
            raise NotUnderstoodError(self.failure)
        self.answer = self.nodes[id(answer)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        noted = _with_nodes((tuple(args), dict(kwargs)), self._node_of)
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        depends = name not in _NEW and _holds(
            noted[0][:1] if name in _LIKE else noted, self.depends
        )
        tensors = result if isinstance(result, tuple | list) else (result,)
        if not any(isinstance(t, Tensor) for t in tensors):
            if depends and name not in _FACTS:
                self.failure = self.failure or f"{name} looks at numbers that depend on the picture"
            return result
        if isinstance(result, Tensor):
            self._add(func, noted, result, depends)
        elif all(isinstance(t, Tensor) for t in tensors):
            node = self._add(func, noted, None, depends)
            for index, tensor in enumerate(tensors):
                self._add(operator.getitem, ((node, index), {}), tensor, depends)
        else:
            self.failure = self.failure or f"{name} answers with tensors and something else"
        return result

    def _add(
        self, func: Callable[..., Any], noted: Any, value: Tensor | None, depends: bool
    ) -> fx.Node:
        node = self._enter(self.graph.call_function(func, *noted), value)
        if depends:
            self.depends.add(node)
        return node

    def _enter(self, node: fx.Node, value: Tensor | None) -> fx.Node:
        self.values[node] = value
        if value is not None:
            self.nodes[id(value)] = (
                node  # of a call in place: from now on the tensor is this node's value
            )
            self.alive.append(value)
        return node

    def _node_of(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.nodes:
            self._enter(
                self.graph.create_node("placeholder", f"constant_{len(self.nodes)}"), tensor
            )
        return self.nodes[id(tensor)]


def _with_nodes(thing: Any, node_of: Callable[[Tensor], fx.Node]) -> Any:
    if isinstance(thing, tuple | list):
        parts = [_with_nodes(t, node_of) for t in thing]
        return parts if isinstance(thing, list) else tuple(parts)
    if isinstance(thing, dict):
        return {key: _with_nodes(value, node_of) for key, value in thing.items()}
    return node_of(thing) if isinstance(thing, Tensor) else thing


def _holds(thing: Any, nodes: set[fx.Node]) -> bool:
    if isinstance(thing, tuple | list):
        return any(_holds(t, nodes) for t in thing)
    if isinstance(thing, dict):
        return any(_holds(t, nodes) for t in thing.values())
    return isinstance(thing, fx.Node) and thing in nodes


def _merged(one: _Recorder, two: _Recorder) -> Trace:
    """The recording with one picture, in which what doubled with two is the batch size."""
    first, second = list(one.graph.nodes), list(two.graph.nodes)
    place = {n: i for i, n in enumerate(first)} | {n: i for i, n in enumerate(second)}
    if len(first) != len(second) or place[one.answer] != place[two.answer]:
        raise NotUnderstoodError("two pictures take another way than one")
    static: dict[fx.Node, Tensor] = {}
    dependent = set(one.depends) | {first[place[n]] for n in two.depends}
    for mine, other in zip(first, second, strict=True):
        if mine.op != other.op or getattr(mine.target, "__name__", "") != getattr(
            other.target, "__name__", ""
        ):
            raise NotUnderstoodError("two pictures take another way than one")
        value, twin = one.values[mine], two.values[other]
        mine.meta["shape"] = None if value is None else tuple(value.shape)
        mine.meta["channels_last"] = (
            value is not None
            and value.ndim == 4
            and value.is_contiguous(memory_format=torch.channels_last)
        )
        if mine.op == "call_function":
            args = _compared(
                (mine.args, dict(mine.kwargs)), (other.args, dict(other.kwargs)), place
            )
            if value is not None and twin is not None and value.shape != twin.shape:
                dependent.add(mine)
            mine.args, mine.kwargs = args
        elif mine is not one.picture and not _same(value, twin):
            raise NotUnderstoodError("a tensor came from outside of torch functions")
        name = getattr(mine.target, "__name__", "")
        if name not in _NEW and _holds(
            mine.args[:1] if name in _LIKE else (mine.args, dict(mine.kwargs)), dependent
        ):
            dependent.add(mine)
        if mine not in dependent and value is not None:
            static[mine] = value
    return Trace(one.graph, one.picture, one.answer, static)


def _same(one: Tensor | None, two: Tensor | None) -> bool:
    return one is two or (
        one is not None and two is not None and one.shape == two.shape and torch.equal(one, two)
    )


def _compared(one: Any, two: Any, place: dict[fx.Node, int]) -> Any:
    if isinstance(one, fx.Node) and isinstance(two, fx.Node) and place[one] == place[two]:
        return one
    if isinstance(one, tuple | list) and isinstance(two, tuple | list) and len(one) == len(two):
        parts = [_compared(a, b, place) for a, b in zip(one, two, strict=True)]
        return parts if isinstance(one, list) else tuple(parts)
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return {key: _compared(one[key], two[key], place) for key in one}
    if isinstance(one, slice) and isinstance(two, slice):
        return slice(
            *(_compared(getattr(one, k), getattr(two, k), place) for k in ("start", "stop", "step"))
        )
    if type(one) is int and type(two) is int and two == 2 * one and one > 0:
        return PerPicture(one)
    if type(one) is type(two) and (one is two or one == two):
        return one
    raise NotUnderstoodError(f"{one!r} with one picture is {two!r} with two")
