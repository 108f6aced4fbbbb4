"""Running a model's layers without checkpoints or the user's backward hooks, in one thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Any, final

import torch.utils.checkpoint as checkpointing
from torch import nn


@final
class _ThreadPatch:
    """Replaces attributes of torch while a block runs; other threads get the originals.

    Args:
        owner: The module or class.
        replacements: By attribute, a function of the original and of a test whether the current
            thread is inside a block, which returns what to use instead.
    """

    def __init__(
        self, owner: Any, replacements: dict[str, Callable[[Any, Callable[[], bool]], Any]]
    ) -> None:
        self._owner, self._replacements = owner, replacements
        self._lock, self._here, self._blocks = Lock(), local(), 0
        self._originals: dict[str, Any] = {}

    def is_active(self) -> bool:
        """Is the current thread inside a block?"""
        return getattr(self._here, "depth", 0) > 0

    @contextmanager
    def block(self) -> Iterator[None]:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                for name, replacement in self._replacements.items():
                    if (original := getattr(self._owner, name, None)) is not None:
                        self._originals[name] = original
                        setattr(self._owner, name, replacement(original, self.is_active))
        self._here.depth = getattr(self._here, "depth", 0) + 1
        try:
            yield
        finally:
            self._here.depth -= 1
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    for name, original in self._originals.items():
                        setattr(self._owner, name, original)
                    self._originals.clear()


@final
class _DirectFunction:
    """In place of the autograd function of a reentrant checkpoint."""

    def __init__(self, original: Any, is_active: Callable[[], bool]) -> None:
        self._original, self._is_active = original, is_active

    def apply(self, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        if self._is_active():
            return function(*args)
        return self._original.apply(function, preserve, *args)


def _direct_steps(original: Any, is_active: Callable[[], bool]) -> Any:
    """In place of the steps before and after the function of a checkpoint without reentrance."""

    def steps(*args: Any, **kwargs: Any) -> Iterator[None]:
        if is_active():
            yield
        else:
            yield from original(*args, **kwargs)

    return steps


def _unless_active(result: object) -> Callable[[Any, Callable[[], bool]], Any]:
    def replacement(original: Any, is_active: Callable[[], bool]) -> Any:
        return lambda module: result if is_active() else original(module)

    return replacement


_CHECKPOINTS = _ThreadPatch(
    checkpointing,  # by the names under which `checkpoint` looks them up
    {
        "CheckpointFunction": _DirectFunction,
        "_checkpoint_without_reentrant_generator": _direct_steps,
        "_checkpoint_without_reentrant_generator_impl": _direct_steps,
    },
)
_BACKWARD_HOOKS = _ThreadPatch(
    nn.Module,
    {
        "_get_backward_hooks": _unless_active(((), ())),
        "_get_backward_pre_hooks": _unless_active(()),
    },
)

without_checkpointing = _CHECKPOINTS.block
"""Inside the block, `torch.utils.checkpoint` runs its function directly, in this thread.

Checkpointing trades memory for time: the backward pass runs the layers again, outside of our hooks
and rules, and in its reentrant form it takes no `torch.autograd.grad`. The values are those of a
model without it.
"""

without_backward_hooks = _BACKWARD_HOOKS.block
"""Inside the block, modules run without the backward hooks that were registered on them, in this
thread: what a rule propagates is no gradient.
"""
