"""Which calls of a trace can be made on the changed rectangle of a map alone, and how."""

import operator
from typing import Any

import torch
from torch import fx

from saliencykit.networks.incremental.propagation_rules import (
    NCHW,
    NHWC,
    AxisLayout,
    Mean,
    Pointwise,
    PropagationRule,
)
from saliencykit.networks.incremental.sliding_rules import SLIDING_RULES, named_arguments
from saliencykit.networks.incremental.trace import BatchMultiple, Trace

# each position on its own; names without underscores at their ends
_POINTWISE = {
    "abs", "add", "celu", "clamp", "clamp_max", "clamp_min", "clone", "contiguous", "detach",
    "div", "dropout", "dropout2d", "elu", "exp", "feature_dropout", "float", "gelu", "hardsigmoid",
    "hardswish", "hardtanh", "iadd", "idiv", "imul", "isub", "itruediv", "leaky_relu", "log",
    "log1p", "maximum", "minimum", "mish", "mul", "multiply", "neg", "pow", "radd", "reciprocal",
    "relu", "relu6", "rmul", "rsqrt", "rsub", "selu", "sigmoid", "silu", "softplus", "softsign",
    "sqrt", "square", "sub", "subtract", "tanh", "threshold", "to", "true_divide", "truediv",
    "type",
}  # fmt: skip
# each position on its own, over all channels; where the channels must be
_CHANNELWISE = {"batch_norm": 1, "prelu": 1, "layer_norm": 3, "linear": 3}
# where the dimension is among the arguments
_CONCAT = {"cat": 1, "concat": 1, "concatenate": 1}
_SPLIT = {"chunk": 2, "split": 2}


def infer_rules(
    trace: Trace,
) -> tuple[dict[fx.Node, PropagationRule], dict[fx.Node, AxisLayout]]:
    """The rule of every call that has one, and the layout of every map.

    Any other call needs its maps as a whole.
    """
    layouts = {trace.image: NCHW}
    rules: dict[fx.Node, PropagationRule] = {}
    for node in trace.graph.nodes:
        if node.op != "call_function" or node in trace.static:
            continue
        if (rule := _rule(node, trace, layouts)) is not None:
            rules[node] = rule
            if not isinstance(rule, Mean):
                layouts[node] = rule.layout
    return rules, layouts


def _rule(
    node: fx.Node, trace: Trace, layouts: dict[fx.Node, AxisLayout]
) -> PropagationRule | None:
    name = node.target.__name__.strip("_") if callable(node.target) else ""
    maps = tuple(n for n in node.all_input_nodes if n not in trace.static)
    if not maps or any(n not in layouts for n in maps):
        return None
    layout = layouts[maps[0]]
    only_map_first = node.args[:1] == maps
    if name in SLIDING_RULES:
        sliding = layout == NCHW and only_map_first
        return SLIDING_RULES[name](node, trace, maps[0]) if sliding else None
    if name == "permute":
        dims = node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:]
        order: Any = tuple(d % 4 for d in dims)  # type: ignore
        turned = {(NCHW, (0, 2, 3, 1)): NHWC, (NHWC, (0, 3, 1, 2)): NCHW}.get((layout, order))
        return None if turned is None else Pointwise(maps, turned)
    if name in ("mean", "adaptive_avg_pool2d"):
        return Mean(maps[0]) if _over_all_positions(name, node, layout) else None
    if any(layouts[n] != layout for n in maps) or _has_batch_size(node):
        return None
    if name in _CONCAT or name in _SPLIT:
        fits = _along_channels(name, node, maps, layout)
    elif node.target is operator.getitem:
        fits = maps[0].meta["shape"] is None
    elif name in _CHANNELWISE:
        channels_last = layout.channels == _CHANNELWISE[name]
        fits = channels_last and only_map_first and _reads_one_position(name, node)
    else:
        fits = name in _POINTWISE and _keeps_size(node, maps, trace, layout)
    return Pointwise(maps, layout) if fits else None


def _over_all_positions(name: str, node: fx.Node, layout: AxisLayout) -> bool:
    if name == "adaptive_avg_pool2d":
        size = node.args[1:] or tuple(node.kwargs.values())[:1]
        return layout == NCHW and size in ((1,), ((1, 1),), ([1, 1],))
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    if not isinstance(dims, tuple | list) or "dtype" in node.kwargs:
        return False
    return {d % 4 for d in dims if isinstance(d, int)} == {layout.rows, layout.rows + 1}


def _along_channels(
    name: str, node: fx.Node, maps: tuple[fx.Node, ...], layout: AxisLayout
) -> bool:
    at = (_CONCAT | _SPLIT)[name]
    dim = node.kwargs.get("dim", node.args[at] if len(node.args) > at else 0)
    all_maps = name in _SPLIT or len(maps) == len(set(node.args[0]))  # type: ignore[arg-type]
    return isinstance(dim, int) and dim % 4 == layout.channels and all_maps


def _reads_one_position(name: str, node: fx.Node) -> bool:
    if name == "layer_norm":
        return len(named_arguments(node, "input", "normalized_shape")["normalized_shape"]) == 1
    if name == "batch_norm":
        args = named_arguments(node, "input", "mean", "var", "weight", "bias", "training")
        return not args.get("training", False)
    return True


def _keeps_size(node: fx.Node, maps: tuple[fx.Node, ...], trace: Trace, layout: AxisLayout) -> bool:
    """Are all maps of the output's size, and all other tensors the same at every position?"""
    constants = [trace.static[n].shape for n in node.all_input_nodes if n in trace.static]
    if not all(_broadcasts(shape, layout) for shape in constants):
        return False
    shapes = [node.meta["shape"], *(n.meta["shape"] for n in maps)]
    if any(shape is None for shape in shapes) or len(shapes[0]) != 4:
        return False
    return all(layout.size(shape) == layout.size(shapes[0]) for shape in shapes)


def _broadcasts(shape: torch.Size, layout: AxisLayout) -> bool:
    """Does a tensor of this shape broadcast over rows and columns?"""
    full = (1,) * (4 - len(shape)) + tuple(shape)
    return len(full) == 4 and full[0] == 1 and layout.size(full) == (1, 1)


def _has_batch_size(node: fx.Node) -> bool:
    found: list[bool] = []
    fx.node.map_aggregate(
        (node.args, node.kwargs), lambda leaf: found.append(isinstance(leaf, BatchMultiple))
    )
    return any(found)
