"""Alike: the same numbers but for rounding, as of one network that computes in another order."""

from torch import Tensor

# of the range: pooling in another order, folding and other kernels round differently, by a tenth of
# it at most
_SHARE = 1e-3


def close_to_rounding(answer: Tensor, wanted: Tensor) -> bool:
    """Does an answer differ from the one that is wanted by no more than a thousandth of that one's
    range?

    What depends on something else differs by far more.

    Args:
        answer: Of any shape; another one than that of `wanted` is not alike, nor is NaN.
        wanted: Its largest less its smallest number is the range.

    Example:
        >>> wanted = torch.tensor([0.0, 10.0])
        >>> close_to_rounding(wanted + 0.001, wanted), close_to_rounding(wanted + 1.0, wanted)
        (True, False)
    """
    if answer.shape != wanted.shape:
        return False
    answer, wanted = answer.detach().float(), wanted.detach().float()
    return bool(
        (answer - wanted).abs().max() <= _SHARE * (wanted.amax() - wanted.amin()).clamp_min(1e-6)
    )
