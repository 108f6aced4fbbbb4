"""RectifierRules: while active, every rectifier that a model computes has a modified gradient."""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

ReluRule: TypeAlias = Literal["guided", "deconvolution"]

_RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_INPLACE_LAST = (F.relu, F.relu6, F.hardtanh)  # `inplace` is their last argument
_OTHER_ACTIVATIONS = {
    "Gelu", "Silu", "Hardswish", "Elu", "LeakyRelu", "Mish", "Softplus", "Relu", "Hardtanh",
    "Prelu", "PreluKernel", "Rrelu", "RreluWithNoise", "Celu", "Selu", "Abs", "Softshrink",
    "Hardshrink", "LogSigmoid", "Logaddexp",
}  # fmt: skip
# functions of one map that bound its values, as a rectifier does
_BOUNDS = {
    "clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "max", "min", "fmax", "fmin",
    "threshold", "hardtanh",
}  # fmt: skip
# functions whose values at a position depend on other positions or channels
_MIXING = re.compile(
    "conv|linear|matmul|mm$|einsum|dot|attention|norm|pool|softm|flip|roll|permute|transpose|swap"
    "|move|sort|cum|pad|interpolate|upsample|rot90|gather|index|take|fft|fold|expand|grid_sample"
    "|shuffle|mean|sum|var|std|get"
)
# of several functions of one map: linear in them, or blind to their values
_LINEAR = re.compile("add|sub|cat|stack|_as$|to$|copy|like|lerp")
_ROUNDING = 1e-4  # of the largest value: GeM pooling writes clamp(min=1e-6)


@final
class RectifierRules(TorchFunctionMode):
    """Follows the rule at every rectifier, by what it computes and not by its name.

    `clamp(min=0)`, `maximum(x, 0)`, `where(x > 0, x, 0)` and `x * (x > 0)` are ReLUs too: a
    function of one map, element by element, that is 0 where the map is negative and the map itself
    elsewhere, up to a ceiling. Each map gets a number, which maps that are computed from it element
    by element share, so that a product of `x` and `sigmoid(x)` is known as a function of `x`.

    Attributes:
        count: The rectifiers that followed the rule.
        others: Functions of one map that are no rectifiers: activations without a rule.
    """

    def __init__(self, rule: ReluRule) -> None:
        super().__init__()
        self.rule, self.count = rule, 0
        self.others: set[str] = set()
        self._numbers: Any = WeakTensorKeyDictionary()
        self._next = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, or the rule in its place."""
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        in_place |= name.startswith("__i") or name == "__setitem__" or bool(given.get("inplace"))
        in_place |= func in _INPLACE_LAST and bool(args) and args[-1] is True
        name = name.strip("_")
        x = args[0] if args else given.get("input")
        ceiling = _ceiling(func, args, given)
        if ceiling is not None and isinstance(x, Tensor) and x.requires_grad:
            return self._rectified(x, ceiling, in_place)
        maps = [v for v in (*args, *given.values()) if self._is_map(v)]
        if not maps or not torch.is_grad_enabled():
            return func(*args, **given)
        numbers = {self._number(each) for each in maps}
        if len(numbers) == 1 and _MIXING.search(name) is None:
            several = len({id(each) for each in maps}) > 1
            if name.lstrip("ir") in _BOUNDS or (several and _LINEAR.search(name) is None):
                return self._judged(func, args, given, maps, in_place)
            result = func(*args, **given)
            self._share_number(result, maps[0])
            return result
        result = func(*args, **given)
        if isinstance(result, Tensor):
            self._numbers.pop(result, None)  # of an in-place function: another map from now on
        return result

    def _judged(
        self, func: Any, args: Any, given: dict[str, Any], maps: list[Tensor], in_place: bool
    ) -> Any:
        """The result of a function of one map, or the rule where that is a rectifier of it."""
        if in_place:
            values = [v.detach().clone() if isinstance(v, Tensor) else v for v in args]
            result = func(*values, **given)
            out = values[0] if result is None else result  # of `x[x < 0] = 0`
        else:
            result = out = func(*args, **given)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            self._share_number(out, maps[0])
            return func(*args, **given) if in_place else result
        for each in maps:
            if not each.requires_grad or each.shape != out.shape:
                continue
            with torch.no_grad():
                ceiling = _bound(out, each)
            if ceiling is not None:
                rectified = self._rectified(each, ceiling, in_place and each is args[0])
                return None if result is None else rectified
        unchanged = any(each.shape == out.shape and torch.equal(out, each) for each in maps)
        if out.shape == maps[0].shape and not unchanged:
            self.others.add(f"an activation of its own (written with {func.__name__!r})")
        if in_place:
            result = out = func(*args, **given)
        self._share_number(out, maps[0])
        return result

    def _rectified(self, x: Tensor, ceiling: float, in_place: bool) -> Tensor:
        self.count += 1
        number = self._number(x)
        out: Tensor = Rectify.apply(x, ceiling, self.rule, in_place)
        self._numbers[out] = number
        return out

    def _is_map(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
            return False
        return value.requires_grad or value in self._numbers

    def _number(self, x: Tensor) -> int:
        if x not in self._numbers:
            self._numbers[x] = self._next = self._next + 1
        return int(self._numbers[x])

    def _share_number(self, result: Any, x: Tensor) -> None:
        if isinstance(result, Tensor) and result is not x:
            if result.shape == x.shape:
                self._numbers[result] = self._number(x)
            else:
                self._numbers.pop(result, None)


@final
class Rectify(torch.autograd.Function):
    """ReLU, or ReLU6 with a ceiling, with a modified backward rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float, rule: ReluRule, in_place: bool) -> Tensor:
        """The rectifier's own output."""
        ctx.ceiling, ctx.rule = ceiling, rule
        if in_place:
            ctx.mark_dirty(x)
        bounded = ceiling < float("inf")
        out = F.hardtanh(x, 0.0, ceiling, in_place) if bounded else F.relu(x, in_place)
        if rule == "guided":
            ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """The positive part of the gradient; for `guided` only where the input was positive."""
        # where the output is neither 0 nor at the ceiling, the input was between
        if ctx.rule == "guided" and ctx.ceiling < float("inf"):
            grad = torch.ops.aten.hardtanh_backward(grad, *ctx.saved_tensors, 0.0, ctx.ceiling)
        elif ctx.rule == "guided":
            grad = torch.ops.aten.threshold_backward(grad, *ctx.saved_tensors, 0.0)
        return grad.clamp_min(0), None, None, None


def activations_without_rule(logits: Tensor) -> set[str]:
    """The activations in the graph that the rule did not reach, by the names of their nodes.

    Args:
        logits: With the graph of a model that ran under `RectifierRules`.
    """
    seen, stack, others = set(), [logits.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(next_node for next_node, _ in node.next_functions)
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        own = isinstance(node, torch.autograd.function.BackwardCFunction)
        if own and name not in (Rectify.__name__, "BackwardHookFunction"):
            others.add(f"an autograd function of its own ({name})")
        elif name.removeprefix("Native") in _OTHER_ACTIVATIONS:
            others.add(name)
    return others


def _ceiling(func: Any, args: Any, given: Mapping[str, Any]) -> float | None:
    """The upper bound of the function if it is a ReLU by name, else None."""
    if func in _RELUS:
        return float("inf")
    if func is F.relu6:
        return 6.0
    if func in (F.hardtanh, F.hardtanh_):
        low = args[1] if len(args) > 1 else given.get("min_val", -1.0)
        return float(args[2] if len(args) > 2 else given.get("max_val", 1.0)) if low == 0 else None
    return None


def _bound(out: Tensor, x: Tensor) -> float | None:
    """The ceiling if `out` is a rectifier of `x` that changes some of its values, else None."""
    if not x.numel() or torch.equal(out, x):
        return None
    tolerance = _ROUNDING * x.abs().amax()
    for ceiling in (float("inf"), float(out.amax())):
        if ceiling > 0 and bool((out - x.clamp(0, ceiling)).abs().amax() <= tolerance):
            return ceiling
    return None
