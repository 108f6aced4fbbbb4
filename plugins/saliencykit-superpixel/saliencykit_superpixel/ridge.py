"""Weighted ridge regression, with the penalty from cross-validation."""

import torch
from torch import Tensor

_PENALTIES = torch.logspace(-4, 4, 41, dtype=torch.float64)  # times the mean eigenvalue
# degrees of freedom of a fit, per sample; beyond this the cross-validation score is noise
_MAX_USED = 0.9


def ridge(
    sets: Tensor, targets: Tensor, weights: Tensor, penalty: float | None = None
) -> tuple[Tensor, Tensor]:
    """The slopes `g` that minimize `sum_s w_s (y_s - a - z_s g)^2 + penalty * |g|^2`; the
    intercept `a` is not penalized.

    Args:
        sets: `z`, (n, K) float64.
        targets: `y`, (n,) float64.
        weights: `w`, (n,) float64, >= 0, not all 0.
        penalty: >= 0. None: the one with the least generalized cross-validation score, for weights
            that are all 1.

    Returns:
        `g`, and the standard error of each (the posterior standard deviation of the Bayesian
        ridge: noise and shrinkage), both (K,).

    References:
        Hoerl & Kennard 1970, "Ridge regression", equation 2.1. The penalty: Golub, Heath & Wahba
        1979, "Generalized cross-validation as a method for choosing a good ridge parameter",
        equation 1.3.
    """
    share = weights / weights.sum()
    z, y = sets - share @ sets, targets - share @ targets  # centered: no intercept is residual
    values, vectors = torch.linalg.eigh(z.T @ (weights[:, None] * z))
    values = values.clamp_min(0)
    projected = vectors.T @ (z.T @ (weights * y))
    power = (weights * y * y).sum()
    unit = values.sum().clamp_min(torch.finfo(torch.float64).tiny) / len(values)
    penalties = unit * _PENALTIES
    if penalty is not None:
        penalties = (1e-12 * unit).clamp_min(penalty)[None]
    shrunk = values + penalties[:, None]
    slopes = projected / shrunk
    residual = (power - 2 * slopes @ projected + slopes.square() @ values).clamp_min(0)
    used = 1 + (values / shrunk).sum(1)
    count = weights.sum()
    scores = torch.where(
        used < _MAX_USED * count, residual / (1 - used / count).square(), torch.inf
    )
    best = int(scores.argmin()) if torch.isfinite(scores).any() else len(penalties) - 1
    noise = residual[best] / (count - used[best]).clamp_min(1)
    errors = (vectors.square() @ (noise / shrunk[best])).sqrt()
    return vectors @ slopes[best], errors
