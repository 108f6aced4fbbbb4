"""The rules of excitation backprop: how each function shares the probability of its answer among
what it was made of.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# what the rules below look for is the bare name of a torch function or method: `Tensor.__iadd__`,
# `torch.add` and
# `Tensor.add_` are all an addition
_CONVOLUTIONS = {
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "linear",
}
_MEANS = {
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
}
_MEANS |= {"mean", "sum", "interpolate"}
_ADDITIONS = {"add", "iadd", "radd"}
_PRODUCTS = {"mul", "imul", "rmul", "multiply", "div", "idiv", "itruediv", "truediv", "divide"}
_DIFFERENCES = {"sub", "isub", "subtract"}
_ONE_TO_ONE = {
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold", "leaky_relu", "rrelu", "prelu", "elu", "celu",
    "selu", "silu", "hardswish", "gelu", "mish", "softplus", "sigmoid", "hardsigmoid", "tanh", "softmax", "log_softmax", "log",
    "batch_norm","layer_norm", "group_norm", "instance_norm", "local_response_norm", "dropout", "dropout1d", "dropout2d",
    "feature_dropout",
}  # fmt: skip
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training")
_NOTHING = 1e-30  # a sum of excitations below it is none; dividing by more than it cannot overflow


@final
class ExcitationRules(TorchFunctionMode):
    """Replaces the functions that have a rule, wherever their input comes from the layer."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name == "matmul" and len(args) == 2 and not kwargs:
            rule = _matmul(func, *args)
        else:
            maker = _MAKERS.get(name)
            rule = (
                maker(func, args, kwargs) if maker is not None and torch.is_grad_enabled() else None
            )
        if rule is not None:
            return RuleFunction.apply(*rule)
        if (
            torch.is_grad_enabled()
        ):  # a model that could not be copied has parameters with gradients of their own
            args, kwargs = (
                tuple(map(_constant, args)),
                {key: _constant(value) for key, value in kwargs.items()},
            )
        return func(*args, **kwargs)


@final
class RuleFunction(torch.autograd.Function):
    """A function whose backward step is a rule; the first argument is the rule, the others are the
    maps that it shares among.
    """

    @staticmethod
    def forward(ctx: Any, rule: "ExcitationRule", *maps: Tensor) -> Tensor:
        """The function's own answer."""
        ctx.rule = rule
        ctx.save_for_backward(*maps)
        return rule.answer(*maps)

    @staticmethod
    def backward(ctx: Any, mass: Tensor) -> Any:
        """What each of the maps gets of the probability."""
        with torch.no_grad():
            return None, *ctx.rule.shares(mass, *ctx.saved_tensors)


@dataclass
class ExcitationRule(ABC):
    """How a function shares the probability of its answer among the maps that it was made of.

    Args:
        answer: The function, of these maps.
    """

    answer: Callable[..., Tensor]

    @abstractmethod
    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """What each of the maps gets.

        Args:
            mass: The probability of each unit of the answer.
            maps: Of which the answer was made.
        """


@final
@dataclass
class OneToOne(ExcitationRule):
    """The only child gets everything."""

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """All of it, summed over what was broadcast."""
        return (mass.sum_to_size(maps[0].shape),)


@final
@dataclass
class Linear(ExcitationRule):
    """Equation 3: in proportion to how much each input excites the unit.

    Args:
        answer: The function.
        run: `run(x, w)` is the function without its bias.
        weight: `w`; None where the weights are not negative (a mean).
        sign: -1 for the dual unit, whose weights are negated.
        transposed: Is it a transposed convolution, whose weights stand the other way round?
    """

    run: Callable[[Tensor, Tensor | None], Tensor]
    weight: Tensor | None
    sign: int = 1
    transposed: bool = False

    def fold(self, scale: Tensor, x: Tensor) -> None:
        """A norm that follows directly belongs to the layer. Of its scale only the sign counts:
        shares are relative.
        """
        weight = self.weight
        if (
            weight is None
            or self.transposed
            or (weight.ndim == 2 and x.ndim != 2)
            or len(weight) != len(scale)
        ):
            return
        if bool((scale < 0).any()):
            self.weight = weight * torch.where(scale < 0, -1, 1).to(weight).view(
                -1, *[1] * (weight.ndim - 1)
            )

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """The positive inputs by their positive weights; what nothing excites is shared evenly."""
        (x,) = maps
        mass, exact = mass.to(_precise(x)), _precise(x)
        weight = None if self.weight is None else self.weight.to(exact)
        if (
            weight is not None
        ):  # one pass over the weights: those of VGG's first linear layer are 400 MB
            weight = weight.clamp_min(0) if self.sign == 1 else weight.clamp_max(0).neg_()
        got, left = self._part(mass, x.to(exact).clamp_min(0), weight)
        if left is not None:
            evenly = None if weight is None else torch.ones_like(weight)
            got = got + self._part(left, torch.ones_like(x, dtype=exact), evenly)[0]
        return (got.to(x.dtype),)

    def _part(self, mass: Tensor, x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the inputs get, and what is left, if anything is, because nothing excites the unit
        that has it.
        """
        with torch.enable_grad():
            x.requires_grad_()
            excitation = self.run(x, weight)
        known = excitation.detach()
        rate, left = mass / known, None
        if bool(known.amin() <= _NOTHING):
            idle = known <= _NOTHING
            rate, left = rate.masked_fill_(idle, 0), mass.masked_fill(~idle, 0)
        got = torch.autograd.grad(excitation, x, rate)[0] * x.detach()
        return got, left if left is not None and bool(left.sum() > 0) else None


@final
@dataclass
class Addition(ExcitationRule):
    """Two children with weight 1."""

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """In proportion to the positive parts, half and half where there are none."""
        first, second = (m.to(_precise(m)).clamp_min(0).expand(mass.shape) for m in maps)
        total = first + second
        share = torch.where(total > _NOTHING, first / total.clamp_min(_NOTHING), 0.5) * mass
        return share.sum_to_size(maps[0].shape), (mass - share).sum_to_size(maps[1].shape)


@final
@dataclass
class Half(ExcitationRule):
    """A product of equals."""

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Half each."""
        return mass / 2, mass / 2


def _convolution(func: Any, args: Any, kwargs: Any) -> Any:
    x, weight, bias, rest, named_ones = _taken(args, kwargs, ("input", "weight", "bias"))
    if not _flows(x) or _flows(weight):
        return None
    fixed = weight.detach()

    def run(some: Tensor, w: Tensor | None) -> Tensor:
        return func(some, w, None, *rest, **named_ones)  # type: ignore[no-any-return]

    rule = Linear(lambda some: func(some, fixed, bias, *rest, **named_ones), run, fixed)
    rule.transposed = "transpose" in func.__name__
    return rule, x


def _mean(func: Any, args: Any, kwargs: Any) -> Any:
    x, rest, others = _taken(args, kwargs, ("input",))
    if not _flows(x) or others.get("mode", "nearest") not in (
        "nearest",
        "nearest-exact",
        "bilinear",
        "area",
    ):
        return None
    return Linear(
        lambda some: func(some, *rest, **others), lambda some, _: func(some, *rest, **others), None
    ), x


def _matmul(func: Any, one: Any, other: Any) -> Any:
    if _flows(one) and not _flows(other):
        return Linear(lambda x: func(x, other), lambda x, w: func(x, w), other.detach()), one
    if _flows(other) and not _flows(one):
        return Linear(lambda x: func(one, x), lambda x, w: func(w, x), one.detach()), other
    return None  # attention: autograd's own node has no rule, and is named


def _one_to_one(func: Any, args: Any, kwargs: Any) -> Any:
    x, rest, others = _taken(args, kwargs, ("input",))
    others.pop("inplace", None)
    in_place = bool(rest) or func.__name__.endswith("_")
    return (
        (OneToOne(lambda some: func(some.clone() if in_place else some, *rest, **others)), x)
        if _flows(x)
        else None
    )


def _batch_norm(func: Any, args: Any, kwargs: Any) -> Any:
    x, mean, var, weight, bias, training, rest, others = _taken(args, kwargs, _NORM)
    if not _flows(x) or training:
        return (
            None  # with the batch's own statistics: autograd's own node has no rule, and is named
        )
    rule = getattr(x.grad_fn, "rule", None)
    if isinstance(rule, Linear) and isinstance(weight, Tensor):
        rule.fold(weight.detach(), x)
    return OneToOne(lambda some: func(some, mean, var, weight, bias, False, *rest, **others)), x


def _addition(func: Any, args: Any, kwargs: Any) -> Any:
    one, other, rest, others = _taken(args, kwargs, ("input", "other"))
    if rest or others.get("alpha", 1) != 1:
        return None
    for x, beside in ((one, other), (other, one)):
        # a shift gets nothing, like a bias; a map that comes from before the layer gets its share,
        # which goes past it
        past = (
            isinstance(beside, Tensor)
            and not isinstance(beside, nn.Parameter)
            and _flows(x)
            and beside.shape == x.shape
        )
        if _flows(x) and not _flows(beside) and not past:
            return OneToOne(lambda some, beside=beside: some + beside), x
    return (Addition(torch.add), one, other) if _flows(one) or _flows(other) else None


def _difference(func: Any, args: Any, kwargs: Any) -> Any:
    one, other, rest, others = _taken(args, kwargs, ("input", "other"))
    return (
        (OneToOne(lambda some: some - other), one)
        if _flows(one) and not _flows(other) and not rest and not others
        else None
    )


def _product(func: Any, args: Any, kwargs: Any) -> Any:
    one, other, rest, others = _taken(args, kwargs, ("input", "other"))
    if rest or others:
        return None
    ratio = "div" in func.__name__
    combine = torch.div if ratio else torch.mul
    if _flows(one) and _flows(other):
        if one.shape == other.shape:
            return None if ratio else (Half(torch.mul), one, other)
        smaller = other.numel() <= one.numel()
        one, other = (one, other.detach()) if smaller or ratio else (one.detach(), other)
    if _flows(one):
        return OneToOne(lambda some: combine(some, other)), one
    return (
        (OneToOne(lambda some: combine(one, some)), other) if _flows(other) and not ratio else None
    )


_MAKERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_MEANS, _mean),
    **dict.fromkeys(_ONE_TO_ONE, _one_to_one),
    "batch_norm": _batch_norm,
    **dict.fromkeys(_ADDITIONS, _addition),
    **dict.fromkeys(_DIFFERENCES, _difference),
    **dict.fromkeys(_PRODUCTS, _product),
}


def _taken(args: Any, kwargs: Any, names: tuple[str, ...]) -> list[Any]:
    """The first arguments, by place or by name, then the other ones by place and by name."""
    left = dict(kwargs)
    first = [args[i] if i < len(args) else left.pop(name, None) for i, name in enumerate(names)]
    return [*first, args[len(names) :], left]


def _flows(x: Any) -> bool:
    """Does it come from the layer? (A parameter of a model that could not be copied may require a
    gradient too.)
    """
    return isinstance(x, Tensor) and x.requires_grad and not isinstance(x, nn.Parameter)


def _constant(x: Any) -> Any:
    return x.detach() if isinstance(x, nn.Parameter) else x


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
