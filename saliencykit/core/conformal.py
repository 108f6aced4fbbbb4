"""Split conformal prediction: from scores of calibration images to a bound that a further image of
the same kind stays within with a given frequency, whatever their distribution is.
"""

import math
from collections.abc import Sequence

from saliencykit.core.errors import InputError


def fewest_images(level: float) -> int:
    """The least number of calibration images for which there is a finite bound.

    Example:
        >>> fewest_images(0.9), fewest_images(0.99)
        (9, 99)
    """
    return math.ceil(level / (1 - level) - 1e-9)


def conformal_bound(scores: Sequence[float], level: float) -> float:
    """The `ceil((n + 1) level)`-th smallest score: the score of a further image, exchangeable with
    these, is at most that with a probability of at least `level`.

    Args:
        scores: Of the n calibration images.
        level: In (0, 1).

    Raises:
        InputError: There are too few images for the level.

    Example:
        >>> conformal_bound([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0, 8.0, 6.0], 0.8)
        8.0

    References:
        Vovk et al. 2005, "Algorithmic learning in a random world"; Lei et al. 2018,
        "Distribution-free predictive inference for regression", section 2.2.
    """
    place = math.ceil((len(scores) + 1) * level - 1e-9)
    if place > len(scores):
        raise InputError(
            f"a level of {level:g} takes at least {fewest_images(level)} images; got {len(scores)}."
        )
    return sorted(scores)[place - 1]
