"""Reading a model's output: whatever it returns, to logits (B, K)."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.output import Output, both_answers
from saliencykit.core.types import Logits


def read_logits(
    answer: object,
    batch_size: int,
    who: str,
    output: Output = "softmax",
    probabilities: bool = False,
) -> Logits:
    """The logits, or scores, in what a model returned.

    Args:
        answer: A tensor (B, K); a tuple or list whose first tensor it is; a dict that has `logits`,
            `out` or only one tensor; or an object with `.logits`.
        batch_size: B, the number of images.
        who: The model's name, for the error.
        output: What a column means, see `BlackBox`. One column, (B, 1) or (B,), is a sigmoid's z
            unless it is a score, and becomes two, no and yes: `-z, z` for `sigmoid`, `-z/2, z/2`
            for `softmax`; the probabilities are the same.
        probabilities: Values in [0, 1]; they become logits, kept finite. Not read for scores.

    Returns:
        Logits (B, K), K >= 2; scores (B, K), K >= 1.

    Raises:
        InputError: There are no logits, or they are declared probabilities and not in [0, 1].
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
        found = found.reshape(batch_size, 1) if found.numel() == batch_size else found[None]
    if found.ndim == 4 and found.shape[2:] == (1, 1):
        found = found[:, :, 0, 0]
    if found.ndim != 2 or len(found) != batch_size or 0 in found.shape:
        raise ContractError(
            f"{who} returned shape {shape} for {batch_size} images; a classifier returns "
            f"({batch_size}, K), one number per class. Wrap a model that returns something else "
            "in a small nn.Module that returns the logits."
        )
    if not found.is_floating_point():
        raise ContractError(
            f"{who} returned {found.dtype}; logits and probabilities are float. Return the "
            "scores, not the predicted class."
        )
    if output == "score":
        return found
    if probabilities:
        independent = output == "sigmoid" or found.shape[1] == 1
        found = _logs(found, who) - (_logs(1 - found, who) if independent else 0)
    if found.shape[1] > 1:
        return found
    return both_answers(found, output)


def num_columns(returned: int, output: Output) -> int:
    """K, where a model returns so many columns: one column becomes two, unless it is a score."""
    return returned if returned > 1 or output == "score" else 2


def warn_if_probabilities(logits: Logits, who: str, advice: str) -> None:
    """Warn where all rows are non-negative and sum to 1, which logits practically never do.

    Args:
        logits: (B, K), declared as logits.
        who: The model's name.
        advice: What to write if they are probabilities.
    """
    rows = logits.detach().float()
    if rows.shape[1] > 1 and bool((rows >= 0).all() & ((rows.sum(1) - 1).abs() < 1e-3).all()):
        warnings.warn(
            f"{who} returned rows that sum to 1: these look like probabilities, and are read as "
            f"logits. If it ends in a softmax, write {advice}.",
            stacklevel=5,
        )


def _logs(values: Tensor, who: str) -> Tensor:
    """The logarithms of probabilities, kept finite."""
    low, high = (float(v) for v in values.detach().aminmax())
    if low < -1e-4 or high > 1 + 1e-4:
        raise InputError(
            f"{who} was declared to return probabilities and returned values from {low:.3g} to "
            f"{high:.3g}; write probabilities=False, or output='score' for numbers without a scale."
        )
    smallest = 1e-12 if values.dtype in (torch.float32, torch.float64) else 1e-7
    return values.clamp_min(smallest).log()


def _tensor_in(output: object) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(logits := getattr(output, "logits", None), Tensor):
        return logits
    if isinstance(output, Mapping):
        for key in ("logits", "out", "output", "predictions"):
            if isinstance(output.get(key), Tensor):
                return output[key]  # type: ignore[no-any-return]
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        return tensors[0] if len(tensors) == 1 else None
    if isinstance(output, tuple | list) and output:
        return _tensor_in(output[0])
    return None
