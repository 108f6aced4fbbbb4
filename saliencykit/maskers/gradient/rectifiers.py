"""Rectifiers: while active, finds every ReLU that a model computes, however it is written."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

_RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_INPLACE_LAST = (F.relu, F.relu6, F.hardtanh)  # `inplace` is their last argument
# functions of one map that bound its values, as a rectifier does
_BOUNDS = {
    "clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "max", "min", "fmax", "fmin",
    "threshold", "hardtanh",
}  # fmt: skip
# functions whose values at a position depend on other positions or channels
_MIXING = re.compile(
    "conv|linear|matmul|mm$|dot|attention|norm|pool|softm|flip|roll|permute|transpose|swap"
    "|move|sort|topk|cum|pad|interpolate|upsample|rot90|gather|index_select|take|fft|fold|expand"
    "|grid_sample|shuffle|mean|(?<!ein)sum|amax|amin|var|std|get"
)
_VIEWS = re.compile("view|reshape|flatten|squeeze|getitem")
# of several functions of one map: linear in them, or blind to their values
_LINEAR = re.compile("(add|sub|subtract|cat|concat|stack|copy|to|(?<!ein)sum|mean)$|_as$|like")
_SUMS = re.compile("^[ir]?(add|sub)")
_STEPS = {"sign", "sgn", "round", "floor", "ceil", "trunc", "fix"}  # their derivative is 0
_JOINING = re.compile("(cat|concat|stack)$")  # a maximum of the result may choose between its parts
_LAYERS = re.compile(
    "conv|linear|matmul|mm$|pool|mean$|(?<!ein)sum$"
)  # they read what activations made
# nonlinear, and no activation by itself: gates of other maps, and the powers in means and norms
_GATES, _POWERS = {"tanh", "sigmoid"}, {"pow", "rpow", "square", "exp", "mul", "clamp"}
_ROUNDING = 1e-4  # of the largest value: GeM pooling writes clamp(min=1e-6)


class Rectifiers(TorchFunctionMode, ABC):
    """Finds every rectifier, by what it computes and not by its name.

    `clamp(min=0)`, `maximum(x, 0)`, `where(x > 0, x, 0)`, `x * (x > 0)` and `stack([x,
    0]).amax(0)` are ReLUs too: a function of one map, element by element, that is 0 where the map
    is negative and the map itself elsewhere, up to a ceiling. Each map gets a number, which maps
    that are computed from it element by element share, so that a product of `x` and `sigmoid(x)` is
    known as a function of `x`. Nonlinear steps are remembered until a layer reads their result, so
    that `log1p(exp(x))` is known as an activation.

    Attributes:
        others: Functions of one map that are no rectifiers: activations of another kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.others: set[str] = set()
        self._numbers: Any = WeakTensorKeyDictionary()
        self._steps: Any = WeakTensorKeyDictionary()  # names of nonlinear functions
        self._parts: Any = WeakTensorKeyDictionary()  # functions of one map that were joined
        self._next, self._in_network = 0, False

    @abstractmethod
    def rectify(self, x: Tensor, ceiling: float, in_place: bool) -> Tensor:
        """What a rectifier of x becomes."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, or `rectify` in its place."""
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
        tensors = list(_tensors((*args, *given.values())))
        maps = [each for each in tensors if self._is_map(each)]
        if not maps or not torch.is_grad_enabled():
            return func(*args, **given)
        if _LAYERS.search(name) is not None:
            self._judge_steps(maps[0], name)
        several, linear = len({id(v) for v in maps}) > 1, _LINEAR.search(name) is not None
        steps = set().union(*(self._steps.get(each, ()) for each in maps if linear))
        if maps[0] in self._parts and _LAYERS.search(name) is None:
            return self._judged(func, args, given, self._parts[maps[0]], in_place)
        own = len({self._number(each) for each in maps}) == 1
        if own and (_MIXING.search(name) is None or _VIEWS.search(name) is not None):
            # `x + (relu(x) - x).detach()` is a rectifier with another gradient
            straight = _SUMS.search(name) is not None and not all(v.requires_grad for v in maps)
            if name.lstrip("ir") in _BOUNDS or (several and (straight or not linear)):
                return self._judged(func, args, given, maps, in_place)
            before = maps[0].detach().clone() if in_place else maps[0]
            result = func(*args, **given)
            if name in _STEPS and isinstance(result, Tensor):
                result = result.detach()  # no map, but a mask of one
            if len({id(v) for v in tensors}) == 1 and isinstance(result, Tensor):
                steps = self._with_step(name, result, before)
            self._share_number(result, maps[0], name)
        else:
            result = func(*args, **given)
            if isinstance(result, Tensor):
                self._numbers.pop(result, None)  # of an in-place function: another map from now on
        if isinstance(result, Tensor):
            self._steps[result] = steps
            if own and len(tensors) > 1 and _JOINING.search(name) is not None:
                self._parts[result] = maps
        return result

    def _judged(
        self, func: Any, args: Any, given: dict[str, Any], maps: list[Tensor], in_place: bool
    ) -> Any:
        """The result of a function of one map, or `rectify` where that is a rectifier of it."""
        if in_place:
            values = [v.detach().clone() if isinstance(v, Tensor) else v for v in args]
            result = func(*values, **given)
            out = values[0] if result is None else result  # of `x[x < 0] = 0`
        else:
            result = out = func(*args, **given)
        out = out[0] if isinstance(out, tuple) else out  # of a maximum: the values
        if not isinstance(out, Tensor) or not out.is_floating_point():
            self._share_number(out, maps[0])
            return func(*args, **given) if in_place else result
        if out.numel() > maps[0].numel():  # of joined maps, which it has only sorted
            self._parts[out] = maps
            return result
        alike = [
            each if each.shape == out.shape else each.reshape(out.shape)
            for each in maps
            if each.numel() == out.numel()
        ]
        for each in alike if not isinstance(result, tuple) else ():
            with torch.no_grad():
                ceiling = _bound(out, each) if each.requires_grad else None
                if each.requires_grad and torch.equal(out, each):
                    ceiling = _bound_out_of_reach(func, args, given, each)
            if ceiling is not None:
                rectified = self._rectified(each, ceiling, in_place and each is args[0])
                return None if result is None else rectified
        linear = _SUMS.search(func.__name__.strip("_")) is not None
        if alike and not linear and not any(torch.equal(out, each) for each in alike):
            self.others.add(f"an activation of its own (written with {func.__name__!r})")
        if in_place:
            result = out = func(*args, **given)
        self._share_number(out, maps[0])
        return result

    def _judge_steps(self, x: Tensor, name: str) -> None:
        """Nonlinear functions of a map whose result a layer reads are an activation."""
        self._in_network = True
        steps = self._steps.get(x, set()) - _GATES
        if re.search("pool|mean|sum", name):  # of a generalized mean
            steps = steps - _POWERS
        if steps:
            self.others.add(f"an activation of its own (written with {min(steps)!r})")

    def _with_step(self, name: str, result: Tensor, x: Tensor) -> set[str]:
        """The nonlinear functions that made the result of a function of x alone."""
        if result.numel() != x.numel():
            return set()
        steps, name = set(self._steps.get(x, ())), name.lstrip("i")
        root = (
            name in _POWERS and x.ndim > 1 and x.numel() == len(x) * x.shape[1]
        )  # of a generalized mean
        if self._in_network and not root and not _is_affine(result, x):
            steps.add(name)
        return steps

    def _rectified(self, x: Tensor, ceiling: float, in_place: bool) -> Tensor:
        number = self._number(x)
        out = self.rectify(x, ceiling, in_place)
        self._numbers[out] = number
        return out

    def _is_map(self, value: Tensor) -> bool:
        if isinstance(value, nn.Parameter):
            return False
        return value.requires_grad or value in self._numbers

    def _number(self, x: Tensor) -> int:
        if x not in self._numbers:
            self._numbers[x] = self._next = self._next + 1
        return int(self._numbers[x])

    def _share_number(self, result: Any, x: Tensor, name: str = "") -> None:
        if isinstance(result, Tensor) and result is not x:
            viewed = _VIEWS.search(name) is not None and result.numel() == x.numel()
            if result.shape == x.shape or (viewed and result.data_ptr() == x.data_ptr()):
                self._numbers[result] = self._number(x)
            else:
                self._numbers.pop(result, None)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments, also in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


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


def _bound_out_of_reach(func: Any, args: Any, given: Mapping[str, Any], x: Tensor) -> float | None:
    """Infinity if a function that leaves a map as it is would make negative values 0, else None."""
    if x.ndim < 3 or x[0, 0].numel() < 2:  # a statistic, kept from rounding below 0
        return None
    below = -x.detach().abs() - 1
    values = [below if value is x else value for value in args]
    named = {key: below if value is x else value for key, value in given.items()}
    if not any(value is below for value in (*values, *named.values())):
        return None
    out = func(*values, **named)
    return float("inf") if isinstance(out, Tensor) and not bool(out.any()) else None


@torch.no_grad()
def _is_affine(out: Tensor, x: Tensor) -> bool:
    """Is `out`, which was made of `x` element by element, a multiple of it and a constant? Also
    where one of them is no map, but a mask or numbers.
    """
    if not (x.numel() and x.is_floating_point() and out.is_floating_point()):
        return True
    tolerance = max(_ROUNDING, 4 * torch.finfo(out.dtype).eps, 4 * torch.finfo(x.dtype).eps)
    x, out = x.detach().double().flatten(), out.detach().double().flatten()
    low, high = int(x.argmin()), int(x.argmax())
    slope = (out[high] - out[low]) / (x[high] - x[low]).clamp_min(1e-300)
    error = out - out[low] - slope * (x - x[low])
    return bool(error.abs().amax() <= tolerance * out.abs().amax())
