"""Disagreement: how far a surrogate's answers are from its box's, on pictures that it did not learn
from.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Logits
from saliencykit.evaluation.bootstrap import interval

AGREES = 0.8
"""Top-1 agreement below which the disagreement is large."""
DIFFERS = 0.15
"""Mean difference of the asked class's probability above which it is large."""
_UNDECIDED = 0.02  # a box whose best classes are as close as that has no top class to agree with
RULE = (
    "large: over whole and masked held-out pictures together, the same top class in less than "
    f"{AGREES:.0%}, or the asked class's probability {DIFFERS} or more apart on average"
)


def fidelity(
    mine: Logits, theirs: Logits, places: Mapping[str, Tensor]
) -> dict[str, dict[str, Any]]:
    """Figures for each kind of picture, and for `all` of them, with 95 % intervals from drawing the
    pictures anew.

    Args:
        mine: The surrogate's answers, (n, K).
        theirs: The box's, (n, K).
        places: The rows of each kind, (N,) each, all in the same order of the pictures; `whole`
            among them: the class asked about is the box's top class there.

    Returns:
        By kind: `kl`: KL(box || surrogate) in nats; `agreement`: share with the same top class, or
        with one whose probability is within 0.02 of the box's best (where little of a picture is
        kept a box may be undecided); `difference`: mean absolute difference of the probability of
        the class asked about; each with mean, low and high. `n` is the number of pictures. `all`:
        the mean over kinds for each picture, so that a picture counts once.

    Example:
        >>> logits = torch.eye(3) * 9
        >>> fidelity(logits, logits, {"whole": torch.arange(3)})["all"]["agreement"]["mean"]
        1.0
    """
    asked = theirs[places["whole"]].argmax(1)
    rows = {kind: _rows(mine[place], theirs[place], asked) for kind, place in places.items()}
    rows["all"] = {
        name: torch.stack([each[name] for each in rows.values()]).mean(0) for name in rows["whole"]
    }
    return {
        kind: {name: _figure(values) for name, values in each.items()} | {"n": len(asked)}
        for kind, each in rows.items()
    }


def is_large(figures: Mapping[str, Any]) -> bool:
    """Is it too large to rely on, by the rule above?

    Args:
        figures: What `fidelity` returned.
    """
    every = figures["all"]
    return bool(every["agreement"]["mean"] < AGREES or every["difference"]["mean"] >= DIFFERS)


def _rows(mine: Logits, theirs: Logits, asked: Tensor) -> dict[str, Tensor]:
    own, wanted = F.log_softmax(mine.double(), 1), F.log_softmax(theirs.double(), 1)
    apart = (own.gather(1, asked[:, None]).exp() - wanted.gather(1, asked[:, None]).exp()).abs()[
        :, 0
    ]
    theirs_of_my_best = wanted.gather(1, own.argmax(1, keepdim=True)).exp()[:, 0]
    return {
        "kl": (wanted.exp() * (wanted - own)).sum(1),
        "agreement": (theirs_of_my_best >= wanted.exp().amax(1) - _UNDECIDED).double(),
        "difference": apart,
    }


def _figure(values: Tensor) -> dict[str, float]:
    mean, low, high = interval(values.numpy())
    return {"mean": mean, "low": low, "high": high}
