"""Rules of convolution, pooling and padding."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from saliencykit.networks.incremental.propagation_rules import Sliding
from saliencykit.networks.incremental.trace import Trace


def named_arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments of a call by their names.

    Args:
        node: The call.
        names: Of the function's positional parameters, in order.
    """
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _conv2d(node: fx.Node, trace: Trace, source: fx.Node) -> Sliding | None:
    args = named_arguments(
        node, "input", "weight", "bias", "stride", "padding", "dilation", "groups"
    )
    weight, bias = (trace.static.get(args.get(key)) for key in ("weight", "bias"))  # type: ignore[arg-type]
    if weight is None or len(source.meta["shape"]) != 4:
        return None
    stride, dilation = _pair(args.get("stride", 1)), _pair(args.get("dilation", 1))
    extent = _extent(_pair(weight.shape[2:]), dilation)
    padding, groups = args.get("padding", 0), args.get("groups", 1)
    if padding == "same":
        padding = tuple((side - 1) // 2 for side in extent)
    padding = (0, 0) if padding == "valid" else _pair(padding)

    def on_patch(patch: Tensor) -> Tensor:
        return F.conv2d(patch, weight, bias, stride, 0, dilation, groups)

    return Sliding(source, extent, stride, padding, False, on_patch)


def _max_pool2d(node: fx.Node, trace: Trace, source: fx.Node) -> Sliding | None:
    args = named_arguments(node, "input", "kernel_size", "stride", "padding", "dilation")
    kernel, dilation = _pair(args["kernel_size"]), _pair(args.get("dilation", 1))
    stride, padding = _pair(args.get("stride") or kernel), _pair(args.get("padding", 0))
    if node.meta["shape"] is None:  # with indices
        return None

    def on_patch(patch: Tensor) -> Tensor:
        return F.max_pool2d(patch, kernel, stride, 0, dilation)

    return Sliding(source, _extent(kernel, dilation), stride, padding, True, on_patch)


def _avg_pool2d(node: fx.Node, trace: Trace, source: fx.Node) -> Sliding | None:
    names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    args = named_arguments(node, *names, "divisor_override")
    kernel = _pair(args["kernel_size"])
    stride, padding = _pair(args.get("stride") or kernel), _pair(args.get("padding", 0))
    ceil, include = args.get("ceil_mode", False), args.get("count_include_pad", True)
    fixed, divisor = args.get("divisor_override"), None
    if fixed is None and (padding != (0, 0) or ceil):
        # how much of the kernel counts differs from position to position
        device = next(iter(trace.static.values())).device
        ones = torch.ones(1, 1, *source.meta["shape"][2:], device=device, dtype=torch.float32)
        sums = F.avg_pool2d(ones, kernel, stride, padding, ceil, True, 1)
        divisor = (sums / F.avg_pool2d(ones, kernel, stride, padding, ceil, include))[0, 0]
        fixed = 1

    def on_patch(patch: Tensor) -> Tensor:
        return F.avg_pool2d(patch, kernel, stride, divisor_override=fixed or None)

    return Sliding(source, kernel, stride, padding, False, on_patch, divisor)


def _pad(node: fx.Node, trace: Trace, source: fx.Node) -> Sliding | None:
    args = named_arguments(node, "input", "pad", "mode", "value")
    amounts, value = tuple(args["pad"]), args.get("value") or 0.0
    inside = len(amounts) == 4 and all(isinstance(a, int) and a >= 0 for a in amounts)
    if not inside or args.get("mode", "constant") != "constant":
        return None
    if value not in (0.0, float("-inf")):
        return None
    padding = (amounts[2], amounts[0])
    return Sliding(source, (1, 1), (1, 1), padding, value != 0.0, lambda patch: patch)


def _pair(value: Any) -> tuple[int, int]:
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    return (int(numbers[0]), int(numbers[-1]))


def _extent(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    return (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)


SLIDING_RULES: dict[str, Callable[[fx.Node, Trace, fx.Node], Sliding | None]] = {
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "pad": _pad,
}
"""By the name of the torch function."""
