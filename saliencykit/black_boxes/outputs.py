"""Reading a model's answer: whatever it returns, to logits (B, K)."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.types import Logits

Outputs = Literal["logits", "probabilities"]
OUTPUTS = ("logits", "probabilities")


def read_logits(answer: object, batch: int, outputs: Outputs, who: str) -> Logits:
    """The logits in a model's answer.

    Args:
        answer: A tensor (B, K); a tuple or list whose first tensor it is; a dict that has `logits`,
            `out` or one tensor only; or an object with `.logits`. One column (B, 1) or (B,) is a
            sigmoid's: class 1 against class 0.
        batch: B, how many images were asked about.
        outputs: What the numbers are.
        who: Who answered, for the error.

    Returns:
        Logits (B, K), K >= 2. Probabilities become their logarithm, kept finite at 1e-12.

    Raises:
        InputError: No logits were found, or they are declared probabilities and are not in [0, 1].
        ContractError: They are not (B, K).
    """
    found = _tensor_in(answer)
    if found is None:
        keys = f" with {list(answer)}" if isinstance(answer, Mapping) else ""
        raise InputError(
            f"{who} returned {name_of(answer)}{keys}; expected a tensor (B, K), a tuple that "
            "starts with it, a dict with 'logits', or an object with .logits. Wrap the model in "
            "a small nn.Module that returns the logits."
        )
    shape = tuple(found.shape)
    if found.ndim <= 1:  # squeezed: a sigmoid's column, or the only row
        found = found.reshape(batch, 1) if found.numel() == batch else found.reshape(1, -1)
    if found.ndim == 4 and found.shape[2:] == (1, 1):
        found = found[:, :, 0, 0]
    if found.ndim != 2 or len(found) != batch or 0 in found.shape:
        raise ContractError(
            f"{who} returned shape {shape} for {batch} images; a classifier returns ({batch}, K), "
            "one number per class. A model that returns something else is wrapped in a small "
            "nn.Module that returns the logits."
        )
    if not found.is_floating_point():
        raise ContractError(
            f"{who} returned {found.dtype}; logits and probabilities are float. Return the "
            "scores, not the winner."
        )
    if outputs == "logits":
        return found if found.shape[1] > 1 else torch.cat([torch.zeros_like(found), found], 1)
    low, high = (float(v) for v in found.detach().aminmax())
    if low < -1e-4 or high > 1 + 1e-4:
        raise InputError(
            f"{who} was declared to return probabilities and returned values from {low:.3g} to "
            f"{high:.3g}; write outputs='logits'."
        )
    if found.shape[1] == 1:
        found = torch.cat([1 - found, found], 1)
    return found.clamp_min(1e-12 if found.dtype in (torch.float32, torch.float64) else 1e-7).log()


def look_like_probabilities(logits: Tensor) -> bool:
    """Are all rows non-negative with sum 1? Logits practically never are.

    Example:
        >>> look_like_probabilities(torch.tensor([[0.25, 0.75]])), look_like_probabilities(torch.tensor([[2.0, -1.0]]))
        (True, False)
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        return False
    rows = logits.detach().float()
    return bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all())


def _tensor_in(answer: object) -> Tensor | None:
    if isinstance(answer, Tensor):
        return answer
    if isinstance(logits := getattr(answer, "logits", None), Tensor):
        return logits
    if isinstance(answer, Mapping):
        for key in ("logits", "out", "output", "predictions"):
            if isinstance(answer.get(key), Tensor):
                return answer[key]  # type: ignore[no-any-return]
        tensors = [value for value in answer.values() if isinstance(value, Tensor)]
        return tensors[0] if len(tensors) == 1 else None
    if isinstance(answer, tuple | list) and answer:
        return _tensor_in(answer[0])
    return None
