"""Are two tensors the same but for rounding?"""

import torch
from torch import Tensor

# of the range: other kernels, folding and another order of pooling round to a tenth of it at most
_TOLERANCE = 1e-3
_TOLERANCE_HALF = 5e-2  # in half precision


def close_to_rounding(values: Tensor, expected: Tensor) -> bool:
    """Do the values differ from those expected by at most a thousandth of the expected range?

    What computes something else differs by far more.

    Args:
        values: Of any shape; another shape than that of `expected`, or a NaN, is not close.
        expected: Its maximum minus its minimum is the range.

    Example:
        >>> expected = torch.tensor([0.0, 10.0])
        >>> close_to_rounding(expected + 0.001, expected)
        True
        >>> close_to_rounding(expected + 1.0, expected)
        False
    """
    if values.shape != expected.shape:
        return False
    values, expected = values.detach().float(), expected.detach().float()
    span = (expected.amax() - expected.amin()).clamp_min(1e-6)
    return bool((values - expected).abs().max() <= _TOLERANCE * span)


def same_answers(answers: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Are these the answers of one model in two forms, another copy, file or runtime?

    Args:
        answers: Of any shape; another shape than that of `expected` is not the same.
        expected: The answers of the model itself.
        dtype: The precision that they were computed in.
    """
    if answers.shape != expected.shape:
        return False
    precise = dtype in (torch.float32, torch.float64)
    scale = (expected.max() - expected.min()) + 1e-2 * expected.abs().max()
    difference = (answers - expected).abs().max()
    return bool(difference <= (_TOLERANCE if precise else _TOLERANCE_HALF) * scale)
