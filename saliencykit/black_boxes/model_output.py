"""Reading a model's output: whatever it returns, to logits (B, K)."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.output import Output, both_answers
from saliencykit.core.types import Logits

_MANY = 8  # logits are seldom all in [0, 1] by chance


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
    found = tensor_in(answer)
    if found is None:
        keys = f" with {list(answer)}" if isinstance(answer, Mapping) else ""
        raise InputError(
            f"{who} returned {name_of(answer)}{keys}; expected a tensor (B, K), a tuple that "
            "starts with it, a dict with 'logits', or an object with .logits. "
            f"{_advice(answer, batch_size)}"
        )
    if found.is_nested or found.layout is not torch.strided:
        raise ContractError(
            f"{who} returned a sparse or nested tensor; a classifier returns a dense one (B, K): "
            "write .to_dense() in a small nn.Module around it."
        )
    shape = tuple(found.shape)
    if found.ndim <= 1:  # squeezed: a sigmoid's column, or the only row
        found = found.reshape(batch_size, 1) if found.numel() == batch_size else found[None]
    if found.ndim == 4 and found.shape[2:] == (1, 1):
        found = found[:, :, 0, 0]
    if found.ndim != 2 or len(found) != batch_size or 0 in found.shape:
        raise ContractError(
            f"{who} returned shape {shape} for {batch_size} images; a classifier returns "
            f"({batch_size}, K), one number per class. {_advice(answer, batch_size, found)}"
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


def warn_of_misreading(
    logits: Logits,
    who: str,
    output: Output,
    probabilities: bool,
    *,
    made_probabilities: Callable[[], bool | None] = lambda: None,
) -> None:
    """Warn where a model's answer looks like another one than was declared.

    Args:
        logits: What `read_logits` made of it, (B, K).
        who: The model's name.
        output: What was declared.
        probabilities: What was declared.
        made_probabilities: Does the model end in a sigmoid or softmax? It is called only where all
            logits are in [0, 1]. None: not known.

    Warns:
        UserWarning: Probabilities of exclusive classes do not sum to 1, or logits are or look like
            probabilities. The message has the line to write.
    """
    rows = logits.detach().float()
    one_logit = rows.shape[1] == 2 and bool((rows.sum(1).abs() < 1e-5).all())
    if output == "score" or (probabilities and (one_logit or output == "sigmoid")):
        return
    text, sums = "", rows.sum(1)
    values = rows[:, -1:] * (2 if output == "softmax" else 1) if one_logit else rows
    bounded = bool(((values >= 0) & (values <= 1)).all())
    if probabilities:
        sums = rows.exp().sum(1)
        if bool(((sums - 1).abs() > 0.01).any()):
            text = (
                f"probabilities whose rows sum to {float(sums.min()):.3g} to "
                f"{float(sums.max()):.3g}, and they are read as those of exclusive classes, which "
                "sum to 1. If each label is on its own, write output='sigmoid'"
            )
    elif bounded and not one_logit and bool(((sums - 1).abs() < 1e-3).all()):
        text = (
            "rows that sum to 1: these look like probabilities, and are read as logits. If it "
            "ends in a softmax, write probabilities=True"
        )
    elif bounded and (made := made_probabilities()) is not False:
        options = f"{'' if one_logit else 'output=' + repr('sigmoid') + ', '}probabilities=True"
        if made:
            text = (
                f"what a sigmoid makes: probabilities, and they are read as logits. Write {options}"
            )
        elif not one_logit and values.numel() >= _MANY:
            text = (
                "only values in [0, 1]: they may be probabilities of labels that are each on its "
                f"own, and are read as logits. If they are, write {options}"
            )
    if text:
        warnings.warn(f"{who} returned {text} where you make the black box.", stacklevel=6)


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


def _advice(answer: object, batch_size: int, found: Tensor | None = None) -> str:
    """What to write for an answer without (B, K), where `found` is the tensor that was in it."""
    first = answer[0] if isinstance(answer, list) and answer else answer
    if isinstance(answer, tuple) and hasattr(answer, "indices"):
        return "Return the scores of all classes, not chosen or sorted ones."
    if hasattr(answer, "pred_boxes") or (isinstance(first, Mapping) and "boxes" in first):
        return "For a detection write explain(..., target=DetectionScore(bbox, label))."
    rows = [
        where
        for where, part in _parts(answer)
        if part is not answer and part.is_floating_point()
        if part.ndim in (1, 2) and len(part) == batch_size
    ]
    if rows:
        others = f" (or {', '.join(rows[1:4])})" if rows[1:] else ""
        return (
            f"Write explain(..., target=lambda answer: {rows[0]}){others}; or, for its "
            "probabilities, wrap the model in a small nn.Module that returns them as logits."
        )
    if found is not None and found.ndim == 4:
        return "For a segmentation write explain(..., target=SegmentationClass(label, region))."
    if found is not None and found.ndim == 3:
        return (
            "For detections write explain(..., target=function) with a function from the answer "
            "to one score per image; for YOLO: lambda answer: answer[0][:, 4 + label].amax(1)."
        )
    return "Wrap the model in a small nn.Module that returns the logits."


def _parts(answer: object, where: str = "answer", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an answer, each with the Python expression for it."""
    if isinstance(answer, Tensor):
        yield where, answer
    elif depth and isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from _parts(
                value,
                f"{where}[{json.dumps(key) if isinstance(key, str) else repr(key)}]",
                depth - 1,
            )
    elif depth and isinstance(answer, tuple | list) and not hasattr(answer, "_fields"):
        for index, value in enumerate(answer):
            yield from _parts(value, f"{where}[{index}]", depth - 1)
    elif depth and not isinstance(answer, str):
        names = getattr(answer, "_fields", None) or getattr(answer, "__dict__", {})
        for name in names:
            yield from _parts(getattr(answer, name), f"{where}.{name}", depth - 1)


def tensor_in(output: object) -> Tensor | None:
    """The tensor of logits in what a model returned, as it is; None if there is none."""
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
        first = tensor_in(output[0])
        return None if first is not None and _is_no_answer(first, output[1:]) else first
    return None


def _is_no_answer(first: Tensor, others: Sequence[object]) -> bool:
    """Is the first tensor of a tuple a loss, or the sorted values of chosen classes, as of
    `topk`?
    """
    if not first.ndim:
        return any(isinstance(each, Tensor) and each.ndim for each in others)
    indices = others[0] if others else None
    if not isinstance(indices, Tensor) or indices.is_floating_point() or first.ndim != 2:
        return False
    return indices.shape == first.shape and bool((first.diff(dim=1) <= 0).all())
