"""A term: one summand of an objective; lower is better."""

from dataclasses import dataclass
from typing import final

from saliencykit import Term, Trial
from saliencykit.core import PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Undecided(Term):
    """How far a mask is from binary: the mean of `4 M (1 - M)`, in [0, 1].

    Args:
        weight: The factor of the penalty, >= 0.

    Example:
        >>> Undecided(weight=2.0).weight
        2.0
    """

    reads_logits = False

    def penalty(self, trial: Trial) -> PerImage:
        """0 for a mask of zeros and ones, 1 for one that is 0.5 everywhere."""
        return 4 * (trial.mask * (1 - trial.mask)).mean((1, 2, 3))
