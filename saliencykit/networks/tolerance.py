"""Are two tensors the same but for rounding?"""

from torch import Tensor

# of the range: other kernels, folding and another order of pooling round to a tenth of it at most
_TOLERANCE = 1e-3


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
