"""Fidelity: how close a surrogate's outputs are to its model's, on held-out images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saliencykit.core.output import Output, probability
from saliencykit.core.types import Logits
from saliencykit.evaluation.bootstrap import interval
from saliencykit.surrogate.distillation import divergence

AGREES = 0.8
"""Top-1 agreement below which the fidelity is low."""
DIFFERS = 0.15
"""Mean difference of the class's probability from which on it is low."""
_TIE = 0.02  # classes whose probabilities are this close to the best count as the top class
RULE = (
    f"low: over whole and masked held-out images, the same top class in less than {AGREES:.0%}, or "
    f"a mean difference of {DIFFERS} or more in its probability"
)


def fidelity(
    surrogate: Logits, model: Logits, rows: Mapping[str, Tensor], output: Output = "softmax"
) -> dict[str, dict[str, Any]]:
    """Figures for each kind of image and for `all`, with 95% confidence intervals (percentile
    bootstrap over images).

    Args:
        surrogate: The surrogate's logits, (n, K).
        model: The model's, (n, K).
        rows: The rows of each kind, (N,) each, all in the same order of the images; `whole` is one
            of them: the model's top class there is the class whose probabilities are compared.
        output: What a column means, `softmax` or `sigmoid`.

    Returns:
        By kind: `kl`: KL(model || surrogate) in nats; `agreement`: fraction with the same top
        class, or with one whose probability is within 0.02 of the model's best (where little of an
        image is kept, a model may be undecided); `difference`: mean absolute difference of the
        class's probability; each with mean, low and high. `n` is the number of images. `all`: the
        mean over kinds for each image, so that an image counts once.

    Example:
        >>> logits = torch.eye(3) * 9
        >>> fidelity(logits, logits, {"whole": torch.arange(3)})["all"]["agreement"]["mean"]
        1.0
    """
    labels = model[rows["whole"]].argmax(1)
    values = {kind: _per_image(surrogate[i], model[i], labels, output) for kind, i in rows.items()}
    values["all"] = {
        name: torch.stack([each[name] for each in values.values()]).mean(0)
        for name in values["whole"]
    }
    return {
        kind: {name: _interval(x) for name, x in each.items()} | {"n": len(labels)}
        for kind, each in values.items()
    }


def is_low(figures: Mapping[str, Any]) -> bool:
    """Is the fidelity too low to rely on, by the rule above?

    Args:
        figures: What `fidelity` returned.
    """
    every = figures["all"]
    return bool(every["agreement"]["mean"] < AGREES or every["difference"]["mean"] >= DIFFERS)


def _per_image(
    surrogate: Logits, model: Logits, labels: Tensor, output: Output
) -> dict[str, Tensor]:
    surrogate, model = surrogate.double(), model.double()
    ours, theirs = (probability(logits, labels, output) for logits in (surrogate, model))
    at_our_best, best = (
        probability(model, logits.argmax(1), output) for logits in (surrogate, model)
    )
    return {
        "kl": divergence(surrogate, model, output),
        "agreement": (at_our_best >= best - _TIE).double(),
        "difference": (ours - theirs).abs(),
    }


def _interval(values: Tensor) -> dict[str, float]:
    mean, low, high = interval(values.numpy())
    return {"mean": mean, "low": low, "high": high}
