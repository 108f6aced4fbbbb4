"""What the user's model would notice of us: its modes, torch's random state, its wrappers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

_FEW = 4096  # values of a weight that is looked at and put back
_draws: "WeakKeyDictionary[nn.Module, bool]" = WeakKeyDictionary()
"""Does a model draw random numbers in eval mode?"""


def in_use_elsewhere(model: nn.Module) -> bool:
    """Is the model in training mode, or may another thread set it so in a moment?

    One that is compiled or parallel and in eval mode runs as it is, for its speed.
    """
    if any(getattr(module, "training", False) for module in model.modules()):
        return True
    fast = unwrap(model) is not model or getattr(model, "_compiled_call_impl", None) is not None
    return threading.active_count() > 1 and not fast


@contextmanager
def restored_rng_state(source: nn.Module | None = None) -> Iterator[None]:
    """Restore torch's global CPU random state at the end, where what runs inside changed it.

    Args:
        source: The user's own module that runs inside. Beside other threads, which may have drawn
            numbers meanwhile, the state is restored only if this module draws some: a training
            thread must not get the same ones again. None: always.
    """
    state, draws = torch.get_rng_state(), RandomDraws()
    watched = source if threading.active_count() > 1 else None
    try:
        with nullcontext() if watched is None or watched in _draws else draws:
            yield
        if watched is not None:
            _draws.setdefault(watched, draws.any)
    finally:
        restores = watched is None or _draws.get(watched, draws.any)
        if restores and not torch.equal(state, torch.get_rng_state()):
            torch.set_rng_state(state)


@final
class StateWrites:
    """Notices whether a model in eval mode writes into its own buffers or weights, and takes that
    back; of weights those with few values, and only where no other thread may be training them.

    Args:
        model: Runs inside.

    Attributes:
        any: Has anything been written into a buffer?
        weights: Has anything been written into a weight?
    """

    def __init__(self, model: nn.Module) -> None:
        self.any = self.weights = False
        alone = threading.active_count() == 1
        self._weights = [
            (weight, weight._version, weight.detach().clone() if weight.numel() <= _FEW else None)
            for weight in model.parameters()
            if alone and type(weight) is nn.Parameter and not weight.is_meta
            if weight.layout is torch.strided and not weight.is_inference()
        ]
        self._before = [
            (layer._buffers, name, buffer, buffer.clone(), buffer._version)
            for layer in model.modules()
            if not isinstance(layer, torch.jit.ScriptModule)
            for name, buffer in layer._buffers.items()
            if buffer is not None and not buffer.is_inference() and not buffer.is_sparse
        ]

    def __enter__(self) -> "StateWrites":
        return self

    def __exit__(self, *error: object) -> None:
        for buffers, name, buffer, values, version in self._before:
            if buffers.get(name) is buffer and buffer._version == version:
                continue
            self.any = True
            with torch.no_grad():
                buffer.copy_(values)
            buffers[name] = buffer
        for weight, version, known in self._weights:
            same = known is None or torch.equal(weight.detach().nan_to_num(), known.nan_to_num())
            if same and weight._version == version:
                continue
            self.weights = True
            if known is not None:
                weight.data.copy_(known)  # which other weights may share


class OperationMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of this thread in a `with` block: implement `__torch_dispatch__`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else the first operation imports it, in two seconds
        return False


@final
class RandomDraws(OperationMode):  # type: ignore[no-untyped-call]
    """Notices whether what runs inside, in this thread, draws from torch's global generators.

    Attributes:
        any: Has anything been drawn?

    Example:
        >>> with RandomDraws() as draws:
        ...     _ = torch.rand(2)
        >>> draws.any
        True
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.any = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation."""
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            names = [argument.name for argument in func._schema.arguments]
            given_by_name = dict(zip(names, args, strict=False)) | given
            # attention is tagged for its dropout, which is 0 in eval mode
            off = given_by_name.get("dropout_p") == 0
            self.any |= not off and given_by_name.get("generator") is None
        return func(*args, **given)


def has_hooks(module: nn.Module) -> bool:
    """Has it hooks of its own, forward or backward?"""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile`, DataParallel and DistributedDataParallel."""
    while True:
        if "_orig_mod" in (modules := vars(model).get("_modules", ())):
            model = modules["_orig_mod"]
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model
