"""ModuleCopier: new layer objects around the same weights, and copies of what refers to layers."""

import copy
from collections import OrderedDict
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.networks.module_state import unwrap

Cloned: TypeAlias = Literal["buffers", "all"]
"""Which tensors of a copy have memory of their own."""

_PLAIN = frozenset(
    (bool, int, float, str, bytes, type(None), torch.dtype, torch.device, torch.Size, set, type)
)
_MUTABLE = frozenset((dict, OrderedDict, list))
_MAX_LENGTH = 4096  # longer containers hold data, not layers


@final
class ModuleCopier:
    """Copies the layers of one model, and whatever refers to them; `of` gives the copies.

    Args:
        model: Any module; it is only read.
        clone: Which tensors have memory of their own.
        dtype: Of the floating-point weights; None: they stay as they are.
    """

    def __init__(self, model: nn.Module, clone: Cloned, dtype: torch.dtype | None) -> None:
        self._clone, self._dtype = clone, dtype
        # by id, with the original: another thread may drop it meanwhile, and ids are used again
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._open: set[int] = set()  # what is being copied: references may form a circle
        layers = self._shells(model)
        for layer in layers:
            for parameter in layer._parameters.values():
                self._add_tensor(parameter, clone == "all")
            for buffer in layer._buffers.values():
                self._add_tensor(buffer, True)
        for layer in layers:
            vars(self.of(layer)).update(self._attributes(layer))

    def _shells(self, model: nn.Module) -> list[nn.Module]:
        """The layers, for each of which an empty object is made. TorchScript keeps its layers and
        modes to itself.
        """
        layers, stack = [], [model]
        while stack:
            layer = unwrap(stack.pop())
            if id(layer) in self._copies:
                continue
            if isinstance(layer, torch.jit.ScriptModule):
                self._copies[id(layer)] = layer, self._scripted(layer)
                continue
            self._copies[id(layer)] = layer, object.__new__(type(layer))
            layers.append(layer)
            stack += [each for each in layer._modules.values() if each is not None]
        return layers

    def _scripted(self, layer: nn.Module) -> nn.Module:
        training = any(getattr(each, "training", False) for each in layer.modules())
        if self._clone == "buffers" and not (self._dtype or training):
            return layer
        copied: nn.Module = copy.deepcopy(layer).eval()
        return copied if self._dtype is None else copied.to(self._dtype)

    def _add_tensor(self, tensor: Tensor | None, clone: bool) -> None:
        """A weight or buffer: the same memory with a version counter of its own, or a clone."""
        if tensor is None or id(tensor) in self._copies:
            return
        copied = tensor
        plain = type(tensor) in (Tensor, nn.Parameter)  # others hold more than values
        if plain:
            copied = tensor.data.clone() if clone or tensor.is_inference() else tensor.data
        elif clone:
            copied = copy.deepcopy(tensor)
        if self._dtype and copied.is_floating_point():
            copied = copied.to(self._dtype)
        if plain and isinstance(tensor, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=False)
        self._copies[id(tensor)] = tensor, copied

    def _attributes(self, layer: nn.Module) -> dict[str, Any]:
        """Lists and dictionaries (hooks, caches) are copied too: each side changes its own."""
        state = vars(layer).copy()
        for name, value in list(state.items()):
            kind = type(value)
            if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
                continue
            if kind not in _MUTABLE or len(value) > _MAX_LENGTH:
                state[name] = self.of(value)
            elif not value:
                state[name] = kind()
            elif kind is list:
                state[name] = [self.of(each) for each in value]
            else:
                state[name] = copy.copy(value)
                state[name].update({key: self.of(each) for key, each in list(value.items())})
        state["training"] = False
        if "_compiled_call_impl" in state:
            state["_compiled_call_impl"] = None
        return state

    def of(self, value: Any) -> Any:
        """The copy of a layer or tensor of the model, or of something that refers to one; else the
        value itself.
        """
        if type(value) in _PLAIN:
            return value
        if (known := self._copies.get(id(value))) is not None:
            return known[1]
        if isinstance(value, nn.Module) and (inner := unwrap(value)) is not value:
            return self.of(inner)
        if id(value) in self._open or isinstance(value, Tensor | nn.Module):
            return value
        self._open.add(id(value))
        try:
            return self._referring(value)
        finally:
            self._open.discard(id(value))

    def _referring(self, value: Any) -> Any:
        if isinstance(value, MethodType):
            owner, function = self.of(value.__self__), self.of(value.__func__)
            same = owner is value.__self__ and function is value.__func__
            return value if same else MethodType(function, owner)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, partial):
            before = [value.func, value.args, value.keywords]
            function, args, given = after = [self.of(each) for each in before]
            return partial(function, *args, **given) if _differ(before, after) else value
        if isinstance(value, list | tuple | dict):
            return self._container(value)
        return self._object(value)

    def _container(self, value: Any) -> Any:
        if len(value) > _MAX_LENGTH:
            return value
        before = list(value.values()) if isinstance(value, dict) else list(value)
        after = [self.of(each) for each in before]
        if not _differ(before, after):
            return value
        if isinstance(value, tuple):
            return type(value)._make(after) if hasattr(value, "_make") else type(value)(after)
        copied = copy.copy(value)
        keys = list(value) if isinstance(value, dict) else range(len(after))
        for key, each in zip(keys, after, strict=True):
            copied[key] = each
        return copied

    def _function(self, function: FunctionType) -> FunctionType:
        """With the copies in its closure, defaults and globals."""
        cells = function.__closure__ or ()
        before = [_content(cell) for cell in cells]
        after = [self.of(each) for each in before]
        scope = function.__globals__
        layers = {
            name: self._copies[id(unwrap(scope[name]))][1]
            for name in function.__code__.co_names
            if isinstance(scope.get(name), nn.Module) and id(unwrap(scope[name])) in self._copies
        }
        defaults = self.of(function.__defaults__)
        if not (layers or _differ(before, after) or defaults is not function.__defaults__):
            return function
        closure = tuple(
            cell if old is new else CellType(new)
            for cell, old, new in zip(cells, before, after, strict=True)
        )
        copied = FunctionType(
            function.__code__, {**scope, **layers}, function.__name__, defaults, closure or None
        )
        copied.__kwdefaults__ = self.of(function.__kwdefaults__)
        return copied

    def _object(self, value: Any) -> Any:
        """An object of another class, one level deep; all levels of black boxes."""
        state = getattr(value, "__dict__", None)
        if type(state) is not dict or isinstance(value, type):
            return value
        deep = isinstance(value, BlackBox)
        before = list(state.items())
        after = [self.of(each) if deep or _may_refer(each) else each for _, each in before]
        if not _differ([each for _, each in before], after):
            return value
        copied = object.__new__(type(value))
        vars(copied).update((key, each) for (key, _), each in zip(before, after, strict=True))
        return copied


def _may_refer(value: object) -> bool:
    return isinstance(value, nn.Module | MethodType | FunctionType | list | tuple | dict)


def _differ(before: Any, after: Any) -> bool:
    return any(old is not new for old, new in zip(before, after, strict=True))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None
