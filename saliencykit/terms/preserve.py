"""Preserve: the kept pixels must keep the class."""

from dataclasses import dataclass
from typing import Annotated, final

import torch

from saliencykit.core.objective import Term, Trial
from saliencykit.core.output import log_probability, margin
from saliencykit.core.types import PerImage


@final
@dataclass(frozen=True, kw_only=True)
class PreservedLogProbability(Term):
    """`-log f_c(X*M + A*(1-M))`: the kept pixels must keep the class.

    Args:
        weight: See Term.
        floor: Log-probabilities are clamped here, < 0, so that one hopeless image does not
            dominate the batch.

    Raises:
        InputError: The floor is not negative.

    Example:
        >>> PreservedLogProbability().floor
        -20.0

    References:
        Dabkowski & Gal 2017, equation 1, third term.
    """

    floor: Annotated[float, "[-inf, 0)"] = -20.0

    def penalty(self, trial: Trial) -> PerImage:
        """Minus the log-probability of the label, in nats, in [0, -floor]."""
        return -log_probability(trial.preserved, trial.labels, trial.output).clamp_min(self.floor)


@final
@dataclass(frozen=True, kw_only=True)
class PreservedMargin(Term):
    """`relu(max_{j != c} z_j - z_c + gap)` of the kept pixels: the label must be above the
    runner-up by `gap` nats, no more.

    Args:
        weight: See Term.
        gap: In nats of log-odds, finite, >= 0.

    Raises:
        InputError: The gap is out of range.

    Example:
        >>> PreservedMargin(weight=0.3).gap
        1.0

    References:
        The authors' published code (`sal/saliency_model.py`).
    """

    gap: Annotated[float, "[0, inf)"] = 1.0

    def penalty(self, trial: Trial) -> PerImage:
        """The hinge, >= 0, in nats."""
        return torch.relu(margin(trial.preserved, trial.labels, trial.output) + self.gap)
