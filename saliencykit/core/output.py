"""What a column of a black box's output means: probability, log-probability and margin of a label.

`softmax`: exclusive classes, `p_c = exp(z_c) / sum_j exp(z_j)`. `sigmoid`: independent labels,
`p_c = 1 / (1 + exp(-z_c))`. `score`: numbers without a scale, as of a regression or a similarity.
"""

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F

from saliencykit.core.types import Labels, Logits, PerImage

Output: TypeAlias = Literal["softmax", "sigmoid", "score"]
"""What a column of the output means: an exclusive class, an independent label, or a score."""

OUTPUTS: tuple[Output, ...] = ("softmax", "sigmoid", "score")


def probability(logits: Logits, labels: Labels, output: Output) -> PerImage:
    """`f_c`, the probability of each row's label, in [0, 1].

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means.

    Example:
        >>> logits, label = torch.zeros(1, 4), torch.tensor([2])
        >>> [probability(logits, label, output).item() for output in ("softmax", "sigmoid")]
        [0.25, 0.5]
    """
    return log_probability(logits, labels, output).exp()


def log_probability(logits: Logits, labels: Labels, output: Output) -> PerImage:
    """`log f_c`, <= 0; computed without forming the probability, so that it stays finite.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means.

    Example:
        >>> log_probability(torch.tensor([[0.0, 200.0]]), torch.tensor([0]), "softmax").item()
        -200.0
    """
    all_log = F.log_softmax(logits, dim=1) if output == "softmax" else F.logsigmoid(logits)
    return all_log.gather(1, labels[:, None]).squeeze(1)


def margin(logits: Logits, labels: Labels, output: Output) -> PerImage:
    """The log-odds against the label, in nats: negative if the label wins.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means. `softmax`: `max over j != c of z_j, minus z_c`, the distance
            to the strongest other class, 0 if K is 1; else `-z_c`.

    Example:
        >>> logits, label = torch.tensor([[1.0, 4.0, 3.0]]), torch.tensor([1])
        >>> [margin(logits, label, output).item() for output in ("softmax", "sigmoid")]
        [-1.0, -4.0]

    References:
        The hinge distance of the authors' published code (`sal/saliency_model.py`).
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    if output != "softmax":
        return -own
    if logits.shape[1] == 1:
        return own - own
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return torch.max(others, dim=1).values - own
