"""StructureCache: what was found out about a model, as long as its layers stay the same."""

from types import FunctionType, MethodType
from typing import Any, Generic, TypeVar, final
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_Value = TypeVar("_Value")
_PLAIN = frozenset((bool, int, float, str, bytes, type(None)))
_LOOKED_AT = 4  # weights of which a value is read
_HOOKS = frozenset(("_forward_hooks", "_forward_pre_hooks"))
_IGNORED = frozenset(vars(nn.Module())) - {"_modules"} - _HOOKS | {"_is_full_backward_hook"}


@final
class StructureCache(Generic[_Value]):
    """A dictionary per model, which is empty again once the model's layers have changed.

    Weights may change. A layer that is added, replaced, patched, hooked or set to another option
    (the output size of a pooling, say) starts a new dictionary. It is forgotten with the model.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[nn.Module, tuple[list[Any], dict[Any, _Value]]] = (
            WeakKeyDictionary()
        )

    def of(self, model: nn.Module) -> dict[Any, _Value]:
        """The model's dictionary.

        Args:
            model: The user's own module.
        """
        structure, known = structure_of(model), self._known.get(model)
        if known is None or known[0] != structure:
            self._known[model] = known = (structure, {})
        return known[1]


def structure_of(model: nn.Module) -> list[Any]:
    """All that decides what a model's layers do, but for their weights: types, options, shapes.

    Args:
        model: Any module.

    Example:
        >>> pool = nn.AdaptiveAvgPool2d(1)
        >>> before = structure_of(pool)
        >>> pool.output_size = 2
        >>> structure_of(pool) == before
        False
    """
    parts: list[Any] = []
    for layer in _layers(model):
        parts += [type(layer), _reference(getattr(type(layer), "forward", None))]
        if isinstance(layer, torch.jit.ScriptModule):  # it cannot be changed
            continue
        for name, value in list(vars(layer).items()):
            if name in _IGNORED:
                continue
            kind = type(value)
            if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
                parts.append(value)
            elif name == "_modules" or name in _HOOKS:
                parts.extend(value)  # each hook has a number of its own
            elif kind in (FunctionType, MethodType):
                parts.append(_reference(getattr(value, "__func__", value)))
        weights = (each for each in layer._parameters.values() if each is not None)
        parts += [None if is_lazy(each) else each.shape for each in weights]
    return parts


def state_of(model: nn.Module) -> list[Any]:
    """`structure_of`, and which values the weights and buffers have: what a copy depends on.

    Cheap, as few values are read: torch counts the changes of a tensor. Those through `.data` are
    not counted, but noticed if they change all of the weights, as swapping averaged ones does.

    Args:
        model: Any module.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = state_of(layer)
        >>> _ = layer.weight.detach().zero_()
        >>> state_of(layer) == before
        False
    """
    return [*structure_of(model), *versions_of(model)]


def versions_of(model: nn.Module) -> list[Any]:
    """Which values the weights and buffers have, as of `state_of`.

    Args:
        model: Any module.
    """
    tensors = [
        tensor
        for layer in _layers(model)
        for tensor in (*layer._parameters.values(), *layer._buffers.values())
        if tensor is not None
    ]
    plain = [each for each in tensors if type(each) in (Tensor, nn.Parameter)]
    looked_at = [each for each in plain if each.ndim > 1 and each.layout is torch.strided]
    return [
        *(
            (id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in tensors
        ),
        *(
            each.detach()[(0,) * each.ndim].tolist()
            for each in looked_at[:: max(1, len(looked_at) // _LOOKED_AT)]
            if each.numel() and not each.is_meta
        ),
    ]


def _reference(function: object) -> object:
    """What is equal for one function alone, and does not keep the model that it refers to."""
    return ref(function) if isinstance(function, FunctionType) else None


def _layers(model: nn.Module) -> list[nn.Module]:
    """As `modules()`, which spends most of its time on names."""
    layers = {model: None}
    pending = [model]
    while pending:
        for layer in pending.pop()._modules.values():
            if layer is not None and layer not in layers:
                layers[layer] = None
                pending.append(layer)
    return list(layers)
