"""Conformal risk control: from the failures of calibration images under ever larger regions to the
size at which a further image of the same kind fails no more often than is allowed.
"""

import math

from torch import Tensor

from saliencykit.core.errors import InputError


def fewest_images(level: float) -> int:
    """The least number of calibration images for which there is a size.

    Example:
        >>> fewest_images(0.9), fewest_images(0.99)
        (9, 99)
    """
    return math.ceil(level / (1 - level) - 1e-9)


def controlled_size(failures: Tensor, level: float) -> int:
    """The smallest size at which, and above which, few enough images fail: `(n R + 1) / (n + 1)` is
    at most `1 - level`, with `R` the highest share of failures from this size on.

    A further image, exchangeable with these, then succeeds with a probability of at least `level`:
    exactly where an image that succeeds also succeeds at all larger sizes, and as n grows where
    it need not.

    Args:
        failures: (n, s) bool, of n images at s ascending sizes; nobody fails at the last one.
        level: In (0, 1).

    Returns:
        The index of the size.

    Raises:
        InputError: There are too few images for the level.

    Example:
        >>> import torch
        >>> needed = torch.arange(9)[:, None]
        >>> controlled_size(torch.arange(10) < needed, 0.8)
        7

    References:
        Angelopoulos et al. 2022, "Conformal risk control", theorem 1 and, for losses that are not
        monotone, the extension by the monotonized empirical risk.
    """
    count = len(failures)
    if count < fewest_images(level):
        raise InputError(
            f"a level of {level:g} takes at least {fewest_images(level)} images; got {count}."
        )
    most = failures.sum(0).flip(0).cummax(0).values.flip(0)
    allowed = (1 - level) * (count + 1) - 1 + 1e-9
    return int((most <= allowed).int().argmax())
