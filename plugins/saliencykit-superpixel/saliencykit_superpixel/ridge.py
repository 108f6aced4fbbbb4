"""Weighted ridge regression, and its strength by cross-validation."""

import torch
from torch import Tensor

_STRENGTHS = torch.logspace(-4, 4, 41, dtype=torch.float64)  # times the mean eigenvalue
_SPARE = 0.9  # a fit may use at most so much of the samples' freedom; beyond it the score is noise


def ridge(
    sets: Tensor, answers: Tensor, weights: Tensor, strength: float | None = None
) -> tuple[Tensor, Tensor]:
    """The slopes `g` that minimise `sum_s w_s (y_s - a - z_s g)^2 + strength * |g|^2`; the
    intercept `a` is not penalised.

    Args:
        sets: `z`, (n, K) float64.
        answers: `y`, (n,) float64.
        weights: `w`, (n,) float64, >= 0, not all 0.
        strength: >= 0; None: the one with the least generalised cross-validation score, for weights
            that are all 1.

    Returns:
        `g`, and the standard error of each (noise and shrinkage together, in the ridge's Bayesian
        reading), both (K,).

    References:
        Hoerl & Kennard 1970, "Ridge regression", equation 2.1. The strength: Golub, Heath & Wahba
        1979, "Generalized cross-validation as a method for choosing a good ridge parameter",
        equation 1.3.
    """
    share = weights / weights.sum()
    z, y = sets - share @ sets, answers - share @ answers
    values, vectors = torch.linalg.eigh(z.T @ (weights[:, None] * z))
    values = values.clamp_min(0)
    along = vectors.T @ (z.T @ (weights * y))
    power = (weights * y * y).sum()
    unit = values.sum().clamp_min(torch.finfo(torch.float64).tiny) / len(values)
    tried = (
        unit * _STRENGTHS
        if strength is None
        else torch.tensor([max(strength, 1e-12 * float(unit))], dtype=torch.float64)
    )
    slopes = along / (values + tried[:, None])
    left = (power - 2 * slopes @ along + slopes.square() @ values).clamp_min(0)
    used = 1 + (values / (values + tried[:, None])).sum(1)
    count = weights.sum()
    scores = torch.where(used < _SPARE * count, left / (1 - used / count).square(), torch.inf)
    best = int(scores.argmin()) if torch.isfinite(scores).any() else len(tried) - 1
    noise = left[best] / (count - used[best]).clamp_min(1)
    spread = (vectors.square() @ (noise / (values + tried[best]))).sqrt()
    return vectors @ slopes[best], spread
