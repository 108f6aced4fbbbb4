"""untouched: a model, the caller's tensors and the global random state must stay unchanged."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from saliencykit.core.errors import ContractError

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


@contextmanager
def untouched(who: str, model: nn.Module | None = None, **tensors: Tensor) -> Iterator[None]:
    """Raise unless everything is bit for bit the same afterwards.

    Args:
        who: The name of the code inside, for the message.
        model: Its weights, buffers, modes, `requires_grad`, gradients and hooks are compared.
        tensors: Compared by value, under the name that the message uses.

    Raises:
        ContractError: Something changed; the message names it.

    Example:
        >>> x = torch.zeros(2)
        >>> with untouched("this example", x=x):
        ...     x += 1
        Traceback (most recent call last):
        saliencykit.core.errors.ContractError: this example changed x; leave it as it was.
    """
    before = _facts(model, tensors)
    yield
    after = _facts(model, tensors)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ContractError(f"{who} changed {', '.join(changed[:3])}{more}; leave it as it was.")


def _facts(model: nn.Module | None, tensors: dict[str, Tensor]) -> dict[str, object]:
    facts: dict[str, object] = {name: _digest(tensor) for name, tensor in tensors.items()}
    state = np.random.get_state(legacy=False)
    facts["the random state of torch"] = _digest(torch.random.get_rng_state())
    facts["the random state of numpy"] = (
        state["state"]["key"].tobytes(),
        state["state"]["pos"],
        state["gauss"],
    )
    facts["the random state of random"] = random.getstate()
    if model is None:
        return facts
    values = dict(model.named_parameters(remove_duplicate=False))
    for name, value in (values | dict(model.named_buffers(remove_duplicate=False))).items():
        facts[f"the values of {name}"] = _digest(value)
        facts[f"requires_grad of {name}"] = value.requires_grad
        facts[f"the gradient of {name}"] = None if value.grad is None else _digest(value.grad)
    for name, module in model.named_modules():
        label = name or "the model"
        facts[f"the mode of {label}"] = module.training
        facts[f"the class of {label}"] = type(module)
        facts[f"the hooks of {label}"] = [list(getattr(module, hooks)) for hooks in _HOOKS]
    return facts


def _digest(tensor: Tensor) -> tuple[object, ...]:
    plain = tensor.detach().cpu().contiguous().flatten()
    return (
        tensor.dtype,
        tensor.device,
        tuple(tensor.shape),
        hashlib.blake2b(plain.view(torch.uint8).numpy().tobytes()).digest(),
    )
