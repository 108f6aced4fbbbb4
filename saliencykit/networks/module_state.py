"""Running the user's model without changing it: its modes, torch's random state, its wrappers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run the model in eval mode; its own flags and torch's random state are restored after."""
    training = [module for module in model.modules() if getattr(module, "training", False)]
    for module in training:
        module.training = False  # not .eval(), which a user may have overridden
    try:
        with restored_rng_state():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def restored_rng_state() -> Iterator[None]:
    """Restore torch's global CPU random state at the end.

    For a model that samples in eval mode, or one that is being built.
    """
    state = torch.get_rng_state()
    try:
        yield
    finally:
        if not torch.equal(state, torch.get_rng_state()):
            torch.set_rng_state(state)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile`, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model
