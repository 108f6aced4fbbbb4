"""Evidence for a label in logits: probability, log-probability, and margin to the runner-up."""

import torch
import torch.nn.functional as F

from saliencykit.core.types import Labels, Logits, PerImage


def probability(logits: Logits, labels: Labels) -> PerImage:
    """`f_c`, the softmax probability of each row's label, in [0, 1].

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).

    Example:
        >>> probability(torch.zeros(1, 4), torch.tensor([2])).item()
        0.25
    """
    return log_probability(logits, labels).exp()


def log_probability(logits: Logits, labels: Labels) -> PerImage:
    """`log f_c`, <= 0; computed without forming the probability, so that it stays finite.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).

    Example:
        >>> log_probability(torch.tensor([[0.0, 200.0]]), torch.tensor([0])).item()
        -200.0
    """
    return F.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)


def margin(logits: Logits, labels: Labels) -> PerImage:
    """`max over j != c of z_j, minus z_c`, in nats of log-odds: negative if the label is the top
    class, 0 if K is 1.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).

    Example:
        >>> margin(torch.tensor([[1.0, 4.0, 3.0]]), torch.tensor([1])).item()
        -1.0

    References:
        The hinge distance of the authors' published code (`sal/saliency_model.py`).
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    if logits.shape[1] == 1:
        return own - own
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return torch.max(others, dim=1).values - own
