"""From a black box to its Trace: comparing two recordings tells the batch size from constants."""

from typing import Any

import torch
from torch import Tensor, fx

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.incremental.graph_recorder import GraphRecorder, reads_any
from saliencykit.networks.incremental.trace import BatchMultiple, Trace, UntraceableError

_OTHER_PATH = "two images take another path through the code than one"


def record_trace(black_box: BlackBox, image: Images) -> Trace:
    """Record what a black box computes.

    Its own Python code runs, with one image and with two, under a mode that records every call of a
    torch function: so control flow may depend on sizes and settings, which symbolic tracing
    refuses. Integers that double with the batch are taken for the batch size. Three images are
    evaluated.

    Args:
        black_box: Any black box that computes with torch.
        image: (1, C, H, W).

    Raises:
        UntraceableError: The code reads values that depend on the image (so the next image might
            take another path), or something happens outside of torch functions.
    """
    one, two = GraphRecorder(image), GraphRecorder(torch.cat([image, image.flip(-1)]))
    for recorder in (one, two):
        recorder.run(black_box)
    return _merged(one, two)


def _merged(one: GraphRecorder, two: GraphRecorder) -> Trace:
    """The recording with one image, with the batch size in place of what doubled with two."""
    first, second = list(one.graph.nodes), list(two.graph.nodes)
    place = {n: i for i, n in enumerate(first)} | {n: i for i, n in enumerate(second)}
    if len(first) != len(second) or place[one.logits] != place[two.logits]:
        raise UntraceableError(_OTHER_PATH)
    static: dict[fx.Node, Tensor] = {}
    dependent = set(one.depends) | {first[place[n]] for n in two.depends}
    for node, other in zip(first, second, strict=True):
        name = getattr(node.target, "__name__", "")
        if node.op != other.op or name != getattr(other.target, "__name__", ""):
            raise UntraceableError(_OTHER_PATH)
        value, twin = one.values[node], two.values[other]
        node.meta["shape"] = None if value is None else tuple(value.shape)
        node.meta["channels_last"] = (
            value is not None
            and value.ndim == 4
            and value.is_contiguous(memory_format=torch.channels_last)
        )
        if node.op == "call_function":
            own, others = (node.args, dict(node.kwargs)), (other.args, dict(other.kwargs))
            if value is not None and twin is not None and value.shape != twin.shape:
                dependent.add(node)
            node.args, node.kwargs = _merged_arguments(own, others, place)
        elif node is not one.image and not _equal(value, twin):
            raise UntraceableError("a tensor was made outside of torch functions")
        if reads_any(name, (node.args, dict(node.kwargs)), dependent):
            dependent.add(node)
        if node not in dependent and value is not None:
            static[node] = value
    return Trace(one.graph, one.image, one.logits, static)


def _equal(one: Tensor | None, two: Tensor | None) -> bool:
    if one is None or two is None:
        return one is two
    return one is two or (one.shape == two.shape and torch.equal(one, two))


def _merged_arguments(one: Any, two: Any, place: dict[fx.Node, int]) -> Any:
    if isinstance(one, fx.Node) and isinstance(two, fx.Node) and place[one] == place[two]:
        return one
    if isinstance(one, tuple | list) and isinstance(two, tuple | list) and len(one) == len(two):
        parts = [_merged_arguments(a, b, place) for a, b in zip(one, two, strict=True)]
        return parts if isinstance(one, list) else tuple(parts)
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return {key: _merged_arguments(one[key], two[key], place) for key in one}
    if isinstance(one, slice) and isinstance(two, slice):
        ends = [(s.start, s.stop, s.step) for s in (one, two)]
        return slice(*_merged_arguments(ends[0], ends[1], place))
    if type(one) is int and type(two) is int and two == 2 * one and one > 0:
        return BatchMultiple(one)
    if type(one) is type(two) and (one is two or one == two):
        return one
    raise UntraceableError(f"{one!r} with one image is {two!r} with two")
