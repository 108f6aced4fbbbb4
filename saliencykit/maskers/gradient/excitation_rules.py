"""ExcitationRules: while active, torch functions have the backward step of excitation backprop."""

from collections.abc import Callable
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliencykit.maskers.gradient.winning_probability_rules import (
    Addition,
    ExcitationRule,
    Half,
    Linear,
    OneToOne,
    RuleFunction,
)

# The keys are names of torch functions and methods without underscores: `Tensor.__iadd__`,
# `torch.add` and `Tensor.add_` are all additions.
_LINEAR = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear"
_MEANS = (
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "mean sum interpolate"
)
_ADDITIONS = "add iadd radd"
_BOUNDS = "maximum minimum fmax fmin max min"
_DIFFERENCES = "sub isub subtract"
_PRODUCTS = "mul imul rmul multiply div idiv itruediv truediv divide"
_ONE_TO_ONE = (
    "relu relu6 hardtanh clamp clip clamp_min clamp_max threshold leaky_relu rrelu prelu elu celu "
    "selu silu hardswish gelu mish softplus sigmoid hardsigmoid tanh softmax log_softmax log "
    "batch_norm layer_norm group_norm instance_norm local_response_norm dropout dropout1d "
    "dropout2d feature_dropout"
)
_AVERAGING = ("nearest", "nearest-exact", "bilinear", "area")  # modes of interpolate
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training")

# a rule and its input maps; None: the function keeps its own backward step
_Ruled: TypeAlias = tuple[ExcitationRule, Tensor] | tuple[ExcitationRule, Tensor, Tensor] | None


@final
class ExcitationRules(TorchFunctionMode):
    """Replaces the functions that have a rule, wherever their input depends on the layer."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        maker = _MAKERS.get(getattr(func, "__name__", "").strip("_"))
        ruled = None if maker is None else maker(func, args, kwargs)
        if ruled is not None:
            return RuleFunction.apply(*ruled)
        # parameters of a model that could not be copied may require gradients
        constants = {key: _constant(value) for key, value in kwargs.items()}
        return func(*map(_constant, args), **constants)


def _linear(func: Any, args: Any, kwargs: Any) -> _Ruled:
    x, weight, bias, more, named = _arguments(args, kwargs, ("input", "weight", "bias"))
    if not _depends(x) or _depends(weight):
        return None
    fixed = weight.detach()

    def without_bias(inputs: Tensor, weights: Tensor | None) -> Tensor:
        return func(inputs, weights, None, *more, **named)  # type: ignore[no-any-return]

    rule = Linear(lambda inputs: func(inputs, fixed, bias, *more, **named), without_bias, fixed)
    rule.transposed = "transpose" in func.__name__
    return rule, x


def _mean(func: Any, args: Any, kwargs: Any) -> _Ruled:
    x, more, named = _arguments(args, kwargs, ("input",))
    if not _depends(x) or named.get("mode", "nearest") not in _AVERAGING:
        return None

    def mean(inputs: Tensor, _: Tensor | None = None) -> Tensor:
        return func(inputs, *more, **named)  # type: ignore[no-any-return]

    return Linear(mean, mean, None), x


def _matmul(func: Any, args: Any, kwargs: Any) -> _Ruled:
    if len(args) != 2 or kwargs:
        return None
    one, other = args
    if _depends(one) and not _depends(other):
        return Linear(lambda x: func(x, other), lambda x, w: func(x, w), other.detach()), one
    if _depends(other) and not _depends(one):
        return Linear(lambda x: func(one, x), lambda x, w: func(w, x), one.detach()), other
    return None  # attention: its autograd node has no rule, and the error names it


def _one_to_one(func: Any, args: Any, kwargs: Any) -> _Ruled:
    x, more, named = _arguments(args, kwargs, ("input",))
    if not _depends(x):
        return None
    named.pop("inplace", None)
    in_place = bool(more) or func.__name__.endswith("_")
    return OneToOne(lambda y: func(y.clone() if in_place else y, *more, **named)), x


def _batch_norm(func: Any, args: Any, kwargs: Any) -> _Ruled:
    x, mean, var, weight, bias, training, more, named = _arguments(args, kwargs, _NORM)
    if not _depends(x) or training:
        return None  # with statistics of the batch it has no rule, and the error names it
    rule = getattr(x.grad_fn, "rule", None)
    if isinstance(rule, Linear) and isinstance(weight, Tensor):
        rule.fold(weight.detach(), x)
    return OneToOne(lambda y: func(y, mean, var, weight, bias, False, *more, **named)), x


def _addition(func: Any, args: Any, kwargs: Any) -> _Ruled:
    one, other, more, named = _arguments(args, kwargs, ("input", "other"))
    if more or named.get("alpha", 1) != 1:
        return None
    for x, constant in ((one, other), (other, one)):
        # a shift gets nothing, like a bias; a map from before the layer gets its share
        is_map = isinstance(constant, Tensor) and not isinstance(constant, nn.Parameter)
        bypass = is_map and _depends(x) and constant.shape == x.shape
        if _depends(x) and not _depends(constant) and not bypass:
            return OneToOne(lambda y, constant=constant: y + constant), x
    return (Addition(torch.add), one, other) if _depends(one) or _depends(other) else None


def _difference(func: Any, args: Any, kwargs: Any) -> _Ruled:
    one, other, more, named = _arguments(args, kwargs, ("input", "other"))
    if not _depends(one) or _depends(other) or more or named:
        return None
    return OneToOne(lambda y: y - other), one


def _bound(func: Any, args: Any, kwargs: Any) -> _Ruled:
    """A map and a constant: an activation. A maximum of two maps passes all to the winner."""
    if len(args) != 2 or kwargs or not all(isinstance(each, Tensor) for each in args):
        return None
    one, other = args if _depends(args[0]) else args[::-1]
    if not _depends(one) or _depends(other) or func(one, other).shape != one.shape:
        return None
    return OneToOne(lambda y: func(y, other)), one


def _product(func: Any, args: Any, kwargs: Any) -> _Ruled:
    one, other, more, named = _arguments(args, kwargs, ("input", "other"))
    if more or named:
        return None
    ratio = "div" in func.__name__
    combine = torch.div if ratio else torch.mul
    if _depends(one) and _depends(other):
        if one.shape == other.shape:
            return None if ratio else (Half(torch.mul), one, other)
        # of a map and something smaller, the smaller one is a weight
        smaller = other.numel() <= one.numel()
        one, other = (one, other.detach()) if smaller or ratio else (one.detach(), other)
    if _depends(one):
        return OneToOne(lambda y: combine(y, other)), one
    return (OneToOne(lambda y: one * y), other) if _depends(other) and not ratio else None


_MAKERS: dict[str, Callable[[Any, Any, Any], _Ruled]] = {
    **dict.fromkeys(_LINEAR.split(), _linear),
    **dict.fromkeys(_MEANS.split(), _mean),
    **dict.fromkeys(_ONE_TO_ONE.split(), _one_to_one),
    **dict.fromkeys(_ADDITIONS.split(), _addition),
    **dict.fromkeys(_DIFFERENCES.split(), _difference),
    **dict.fromkeys(_PRODUCTS.split(), _product),
    **dict.fromkeys(_BOUNDS.split(), _bound),
    "batch_norm": _batch_norm,
    "matmul": _matmul,
}


def _arguments(args: Any, kwargs: Any, names: tuple[str, ...]) -> list[Any]:
    """The first arguments, by position or name, then the other positional and keyword ones."""
    left = dict(kwargs)
    first = [args[i] if i < len(args) else left.pop(name, None) for i, name in enumerate(names)]
    return [*first, args[len(names) :], left]


def _depends(x: Any) -> bool:
    """Does it depend on the layer?"""
    return isinstance(x, Tensor) and x.requires_grad and not isinstance(x, nn.Parameter)


def _constant(x: Any) -> Any:
    return x.detach() if isinstance(x, nn.Parameter) else x
