"""A ridge probe: a classifier's logits as a linear function of another network's features."""

import torch
from torch import Tensor

from saliencykit.core.output import Output
from saliencykit.core.types import Logits

_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance of the features
_MOST = 10.0  # log-probabilities and logits of labels beyond it say nothing more
_HELD_OUT = 5  # every fifth row chooses the ridge


def ridge_probe(features: Tensor, logits: Logits, output: Output) -> tuple[Tensor, Tensor]:
    """Weight (K, C) and bias (K,) of a ridge regression of logits on features.

    The ridge is the one with the smallest error on every fifth row. Logits of exclusive classes
    count as differences from their mean over the classes.

    Args:
        features: (N, C), N >= 2.
        logits: (N, K).
        output: What a column of the logits means.

    Example:
        >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        >>> weight, bias = ridge_probe(x, 2 * x[:, :1] + 1, "score")
        >>> weight.round(decimals=1).abs().tolist(), bias.round(decimals=1).tolist()
        ([[2.0, 0.0, 0.0]], [1.0])
    """
    x, y = features.double().cpu(), _targets(logits, output).double().cpu()
    held = torch.arange(len(x), device="cpu") % _HELD_OUT == _HELD_OUT - 1
    best = 1.0
    if held.any() and (~held).sum() > 1:
        solved = [_ridge(x[~held], y[~held], ridge) for ridge in _RIDGES]
        errors = [float((x[held] @ w.T + b - y[held]).square().mean()) for w, b in solved]
        best = _RIDGES[errors.index(min(errors))]
    weight, bias = _ridge(x, y, best)
    return weight.float(), bias.float()


def _targets(logits: Logits, output: Output) -> Tensor:
    if output == "score":
        return logits
    if output == "sigmoid":
        return logits.clamp(-_MOST, _MOST)
    likely = logits.log_softmax(1).clamp_min(-_MOST)
    return likely - likely.mean(1, keepdim=True)


def _ridge(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    centers = x.mean(0), y.mean(0)
    x, y = x - centers[0], y - centers[1]
    product = x.T @ x / len(x)
    scale = product.diagonal().mean().clamp_min(1e-12)
    eye = torch.eye(len(product), dtype=product.dtype, device="cpu")
    weight = torch.linalg.solve(product + ridge * scale * eye, x.T @ y / len(x)).T
    return weight, centers[1] - weight @ centers[0]
