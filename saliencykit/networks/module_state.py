"""What the user's model would notice of us: its modes, torch's random state, its wrappers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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
def restored_rng_state(draws: Callable[[], bool] | None = None) -> Iterator[None]:
    """Restore torch's global CPU random state at the end, where what runs inside changed it.

    Args:
        draws: Does what runs inside draw random numbers? Asked only where other threads run, which
            may have drawn them: a training thread must not get the same ones again. None: yes.
    """
    state = torch.get_rng_state()
    try:
        yield
    finally:
        if not torch.equal(state, torch.get_rng_state()) and (
            draws is None or threading.active_count() == 1 or draws()
        ):
            torch.set_rng_state(state)


def draws_random_numbers(source: nn.Module, model: nn.Module, inputs: Tensor) -> bool:
    """Does a model draw from torch's global generator in eval mode? Tried once.

    Args:
        source: The user's own module; the answer is remembered as long as it lives.
        model: What to run: the same, or a private copy.
        inputs: As the model takes them.
    """
    if source not in _draws:
        watcher = _Draws()
        with torch.no_grad(), watcher:
            model(inputs)
        _draws[source] = watcher.any
    return _draws[source]


@final
class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether anything is drawn in this thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.any = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            names = [argument.name for argument in func._schema.arguments]
            given_by_name = dict(zip(names, args, strict=False)) | given
            # attention is tagged for its dropout, which is 0 in eval mode
            off = given_by_name.get("dropout_p") == 0
            self.any |= not off and given_by_name.get("generator") is None
        return func(*args, **given)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile`, DataParallel and DistributedDataParallel."""
    while True:
        if "_orig_mod" in (modules := vars(model).get("_modules", ())):
            model = modules["_orig_mod"]
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model
