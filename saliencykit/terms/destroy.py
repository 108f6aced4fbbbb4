"""Destroy: without the kept pixels the class must disappear."""

from dataclasses import dataclass
from typing import Annotated, final

import torch

from saliencykit.core.objective import Term, Trial
from saliencykit.core.output import log_probability, margin
from saliencykit.core.types import PerImage


@final
@dataclass(frozen=True, kw_only=True)
class DestroyedProbability(Term):
    """`f_c(X*(1-M) + A*M)^power`: without the kept pixels the class must disappear.

    A power below 1 keeps the slope steep near 0, so that an already small probability is pushed
    further down.

    Args:
        weight: See Term.
        power: Above 0; 0.3 in the paper, 1 for the plain probability.
        floor: Log-probabilities are clamped here, < 0: below it the slope of a power below 1 would
            be unbounded.

    Raises:
        InputError: The power is not positive, or the floor not negative.

    Example:
        >>> DestroyedProbability(weight=5.0).power
        0.3

    References:
        Dabkowski & Gal 2017, equation 1, last term.
    """

    power: Annotated[float, "(0, inf)"] = 0.3
    floor: Annotated[float, "[-inf, 0)"] = -20.0

    def penalty(self, trial: Trial) -> PerImage:
        """The probability of the label to this power, in [0, 1]."""
        log_p = log_probability(trial.destroyed, trial.labels, trial.output).clamp_min(self.floor)
        return (log_p * self.power).exp()


@final
@dataclass(frozen=True, kw_only=True)
class DestroyedMargin(Term):
    """`relu(gap - (max_{j != c} z_j - z_c))` of the image without the mask: the label must be
    below the top class by `gap` nats, no more.

    Args:
        weight: See Term.
        gap: In nats of log-odds, finite, >= 0.

    Raises:
        InputError: The gap is out of range.

    Example:
        >>> DestroyedMargin().gap
        5.0

    References:
        The authors' published code (`sal/saliency_model.py`).
    """

    gap: Annotated[float, "[0, inf)"] = 5.0

    def penalty(self, trial: Trial) -> PerImage:
        """The hinge, >= 0, in nats."""
        return torch.relu(self.gap - margin(trial.destroyed, trial.labels, trial.output))
