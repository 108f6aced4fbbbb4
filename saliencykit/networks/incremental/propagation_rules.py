"""What each torch function does to a rectangle: which calls can be made on the changed part of a
map alone, and how.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from saliencykit.networks.incremental.trace import PerPicture, Trace

# one number in, one number out, at every place; names without underscores at their ends
_POINTWISE = {
    "abs", "add", "celu", "clamp", "clamp_max", "clamp_min", "clone", "contiguous", "detach", "div", "dropout", "dropout2d",
    "elu", "exp", "feature_dropout", "float", "gelu", "hardsigmoid", "hardswish", "hardtanh", "iadd", "idiv", "imul", "isub",
    "itruediv", "leaky_relu", "log", "log1p", "maximum", "minimum", "mish", "mul", "multiply", "neg", "pow", "radd",
    "reciprocal", "relu", "relu6", "rmul", "rsqrt", "rsub", "selu", "sigmoid", "silu", "softplus", "softsign", "sqrt",
    "square", "sub", "subtract", "tanh", "threshold", "to", "true_divide", "truediv", "type",
}  # fmt: skip
# at every place on its own; where the channels must be
_CHANNELWISE = {
    "batch_norm": 1,
    "prelu": 1,
    "layer_norm": 3,
    "linear": 3,
}


@final
@dataclass(frozen=True)
class AxisLayout:
    """Where a 4-D tensor has its rows; its columns come next, its channels are the other dimension.
    2 is NCHW, 1 is NHWC.
    """

    rows: int

    @property
    def channels(self) -> int:
        """The dimension of the channels."""
        return 3 if self.rows == 1 else 1

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a tensor of this shape."""
        return shape[self.rows], shape[self.rows + 1]


NCHW, NHWC = AxisLayout(2), AxisLayout(1)


@final
@dataclass(frozen=True)
class Pointwise:
    """A call that may be made on any rectangle of its maps, if it is the same rectangle of all of
    them.
    """

    sources: tuple[fx.Node, ...]
    layout: AxisLayout


@final
@dataclass(frozen=True, eq=False)
class Sliding:
    """A call whose answer at a place depends on a small rectangle of its map.

    Attributes:
        source: The map.
        extent: Height and width of the small rectangle, dilation included.
        stride: Its steps, down and across.
        padding: Rows above and columns left of the map that it may begin in.
        lowest: Is it -inf that stands outside of the map, and not 0?
        on_patch: The call on a patch that has all it needs: without padding.
        divisor: What the answer is still to be divided by, place by place, (h, w); or None.
    """

    source: fx.Node
    extent: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    lowest: bool
    on_patch: Callable[[Tensor], Tensor]
    divisor: Tensor | None = None

    @property
    def layout(self) -> AxisLayout:
        """Of the answer."""
        return NCHW

    @property
    def in_place(self) -> bool:
        """Does each place depend on the same place of the map alone?"""
        return (
            self.extent == (1, 1)
            and self.stride == (1, 1)
            and self.padding == (0, 0)
            and self.divisor is None
        )


@final
@dataclass(frozen=True)
class Mean:
    """The mean over all places, by which the rest becomes cheap."""

    source: fx.Node


PropagationRule = Pointwise | Sliding | Mean


def rules_of(trace: Trace) -> tuple[dict[fx.Node, PropagationRule], dict[fx.Node, AxisLayout]]:
    """The rule of every call that has one, and the layout of every map; any other call needs the
    whole of its arguments.
    """
    layouts = {trace.picture: NCHW}
    rules: dict[fx.Node, PropagationRule] = {}
    for node in trace.graph.nodes:
        if node.op != "call_function" or node in trace.static:
            continue
        rule = _rule(node, trace, layouts)
        if rule is not None:
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
    if name in _SLIDING:
        return (
            _SLIDING[name](node, trace, maps[0])
            if layout == NCHW and node.args[:1] == maps
            else None
        )
    if name == "permute":
        dims = node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:]
        order: Any = tuple(d % 4 for d in dims)  # type: ignore
        turned = {(NCHW, (0, 2, 3, 1)): NHWC, (NHWC, (0, 3, 1, 2)): NCHW}.get((layout, order))
        return None if turned is None else Pointwise(maps, turned)
    if name in ("mean", "adaptive_avg_pool2d"):
        return Mean(maps[0]) if _over_all_places(name, node, layout) else None
    if any(layouts[n] != layout for n in maps) or _any_batch(node):
        return None
    if name in ("cat", "concat", "concatenate", "chunk", "split"):
        at = {"cat": 1, "concat": 1, "concatenate": 1, "chunk": 2, "split": 2}[name]
        dim = node.kwargs.get("dim", node.args[at] if len(node.args) > at else 0)
        all_maps = name in ("chunk", "split") or len(maps) == len(set(node.args[0]))  # type: ignore[arg-type]
        return (
            Pointwise(maps, layout)
            if isinstance(dim, int) and dim % 4 == layout.channels and all_maps
            else None
        )
    if node.target is operator.getitem:
        return Pointwise(maps, layout) if maps[0].meta["shape"] is None else None
    if name in _CHANNELWISE:
        alone = layout.channels == _CHANNELWISE[name] and node.args[:1] == maps
        return Pointwise(maps, layout) if alone and _reads_one_place(name, node) else None
    if name in _POINTWISE:
        shape = node.meta["shape"]
        spread = all(
            _same_everywhere(trace.static[n].shape, layout)
            for n in node.all_input_nodes
            if n in trace.static
        )
        same = (
            shape is not None and len(shape) == 4 and all(n.meta["shape"] is not None for n in maps)
        )
        same = same and all(layout.size(n.meta["shape"]) == layout.size(shape) for n in maps)
        return Pointwise(maps, layout) if spread and same else None
    return None


def _over_all_places(name: str, node: fx.Node, layout: AxisLayout) -> bool:
    if name == "adaptive_avg_pool2d":
        return layout == NCHW and (node.args[1:] or tuple(node.kwargs.values())[:1]) in (
            (1,),
            ((1, 1),),
            ([1, 1],),
        )
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    wanted = {layout.rows, layout.rows + 1}
    return (
        isinstance(dims, tuple | list)
        and {d % 4 for d in dims if isinstance(d, int)} == wanted
        and "dtype" not in node.kwargs
    )


def _reads_one_place(name: str, node: fx.Node) -> bool:
    if name == "layer_norm":
        return len(_bound(node, "input", "normalized_shape")["normalized_shape"]) == 1
    if name == "batch_norm":
        given = _bound(node, "input", "mean", "var", "weight", "bias", "training")
        return not given.get("training", False)
    return True


def _same_everywhere(shape: torch.Size, layout: AxisLayout) -> bool:
    """Does a tensor of this shape broadcast over rows and columns?"""
    full = (1,) * (4 - len(shape)) + tuple(shape)
    return len(full) == 4 and full[0] == 1 and layout.size(full) == (1, 1)


def _any_batch(node: fx.Node) -> bool:
    found: list[bool] = []
    fx.node.map_aggregate(
        (node.args, node.kwargs), lambda leaf: found.append(isinstance(leaf, PerPicture))
    )
    return any(found)


def _bound(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments by their names."""
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _pair(value: Any) -> tuple[int, int]:
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    return (int(numbers[0]), int(numbers[-1]))


def _conv2d(node: fx.Node, trace: Trace, source: fx.Node) -> PropagationRule | None:
    given = _bound(node, "input", "weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias = (trace.static.get(given.get(k)) for k in ("weight", "bias"))  # type: ignore[arg-type]
    if weight is None or len(source.meta["shape"]) != 4:
        return None
    stride, dilation = _pair(given.get("stride", 1)), _pair(given.get("dilation", 1))
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    padding, groups = given.get("padding", 0), given.get("groups", 1)
    if padding == "same":
        padding = tuple((e - 1) // 2 for e in extent)
    padding = (0, 0) if padding == "valid" else _pair(padding)
    return Sliding(
        source,
        _pair(extent),
        stride,
        padding,
        False,
        lambda patch: F.conv2d(patch, weight, bias, stride, 0, dilation, groups),
    )


def _max_pool2d(node: fx.Node, trace: Trace, source: fx.Node) -> PropagationRule | None:
    given = _bound(
        node, "input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"
    )
    kernel, dilation = _pair(given["kernel_size"]), _pair(given.get("dilation", 1))
    stride, padding = _pair(given.get("stride") or kernel), _pair(given.get("padding", 0))
    if node.meta["shape"] is None:
        return None
    extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    return Sliding(
        source,
        extent,
        stride,
        padding,
        True,
        lambda patch: F.max_pool2d(patch, kernel, stride, 0, dilation),
    )


def _avg_pool2d(node: fx.Node, trace: Trace, source: fx.Node) -> PropagationRule | None:
    given = _bound(
        node,
        "input",
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    )
    kernel = _pair(given["kernel_size"])
    stride, padding = _pair(given.get("stride") or kernel), _pair(given.get("padding", 0))
    ceil, include, fixed = (
        given.get("ceil_mode", False),
        given.get("count_include_pad", True),
        given.get("divisor_override"),
    )
    if fixed is None and (
        padding != (0, 0) or ceil
    ):  # the share of the window that counts differs from place to place
        ones = torch.ones(1, 1, *source.meta["shape"][2:], device=_device(trace))
        sums = F.avg_pool2d(ones, kernel, stride, padding, ceil, True, 1)
        divisor = (sums / F.avg_pool2d(ones, kernel, stride, padding, ceil, include))[0, 0]
        return Sliding(
            source,
            kernel,
            stride,
            padding,
            False,
            lambda p: F.avg_pool2d(p, kernel, stride, divisor_override=1),
            divisor,
        )
    return Sliding(
        source,
        kernel,
        stride,
        padding,
        False,
        lambda p: F.avg_pool2d(p, kernel, stride, divisor_override=fixed or None),
    )


def _pad(node: fx.Node, trace: Trace, source: fx.Node) -> PropagationRule | None:
    given = _bound(node, "input", "pad", "mode", "value")
    amounts, value = tuple(given["pad"]), given.get("value") or 0.0
    sides = (
        isinstance(amounts, tuple)
        and len(amounts) == 4
        and all(isinstance(a, int) and a >= 0 for a in amounts)
    )
    if (
        not sides
        or given.get("mode", "constant") != "constant"
        or value not in (0.0, float("-inf"))
    ):
        return None
    return Sliding(
        source, (1, 1), (1, 1), (amounts[2], amounts[0]), value != 0.0, lambda patch: patch
    )


def _device(trace: Trace) -> torch.device:
    return next(iter(trace.static.values())).device


_SLIDING: dict[str, Callable[[fx.Node, Trace, fx.Node], PropagationRule | None]] = {
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "pad": _pad,
}
