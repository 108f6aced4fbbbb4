"""Estimators of RISE's map from random masks and the probabilities under them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from saliencykit.maskers.perturbation.random_masks import FactoredMasks, side_covariance

GROUPS = 8
"""Samples are dealt to this many groups, antithetic pairs together. Their spread gives the standard
error, two halves of them the expected correlation.
"""
_VARIANCE = 0.999  # of the masks, per side, that the patterns of the regression explain
_MAX_PATTERNS = 40  # per side: 1600 unknowns are solved in a second
_STRENGTHS = 41  # of the ridge penalty, from 1e-4 to 1e4 times the mean eigenvalue
_MAP_BATCH = 32  # maps of single patterns computed at once: 13 MB at 224 px
# degrees of freedom of a fit, per sample; beyond this the cross-validation score is noise
_MAX_USED = 0.9


class ScoreEstimator(ABC):
    """Running sums over random masks and probabilities, for the covariance of the probability with
    each pixel of the mask.

    Args:
        size: Height and width of the masks.
        keep_prob: Mean of the masks.
    """

    def __init__(self, size: tuple[int, int], keep_prob: float) -> None:
        self.size, self.keep_prob = size, keep_prob
        self.num_samples = 0
        self.total = 0.0
        self.reference: float | None = None

    @final
    def update(self, masks: FactoredMasks, probabilities: Tensor) -> None:
        """Add masks in the order in which they were drawn, and the probabilities (n,)."""
        if self.reference is None:
            # sums of deviations from about the mean keep their digits in float32
            self.reference = float(probabilities.mean())
        first, last = self.num_samples, self.num_samples + len(probabilities)
        groups = (torch.arange(first, last, device="cpu") // 2 % GROUPS).to(probabilities.device)
        deviations = probabilities - self.reference
        self.num_samples = last
        self.total += float(deviations.sum())
        self._update(masks, deviations, groups)

    @final
    def mean_evidence(self) -> float:
        """The mean over all samples."""
        return (self.reference or 0.0) + self.total / max(1, self.num_samples)

    @final
    def expected_correlation(self) -> float:
        """The expected correlation of this map with that of infinitely many samples; NaN if the map
        is constant.

        `sqrt(2 r / (1 + r))` for the correlation r between the maps of two halves: the
        Spearman-Brown formula for a test of double length, and the root for the correlation with
        the true map instead of a second estimate.

        References:
            Spearman 1910; Brown 1910; Nunnally 1978, "Psychometric Theory", chapter 6.
        """
        maps = (self.attributions(list(range(half, GROUPS, 2))) for half in (0, 1))
        one, other = (each.double().flatten() for each in maps)
        one, other = one - one.mean(), other - other.mean()
        lengths = one.norm() * other.norm()
        if lengths == 0:
            return float("nan")
        r = float(one @ other / lengths)
        return (2 * r / (1 + r)) ** 0.5 if r > 0 else 0.0

    @abstractmethod
    def attributions(self, groups: list[int] | None = None) -> Tensor:
        """`Cov(y, M) / keep_prob` from some groups or all, (H, W)."""

    @abstractmethod
    def standard_error(self) -> Tensor:
        """The standard error of the attributions, (H, W)."""

    @abstractmethod
    def _update(self, masks: FactoredMasks, deviations: Tensor, groups: Tensor) -> None: ...


@final
class MeanEstimator(ScoreEstimator):
    """The published sum, centered: `mean((y - mean y) * (M - mean M)) / keep_prob`.

    Correct for any masks; needs the most of them.
    """

    def __init__(self, size: tuple[int, int], keep_prob: float, like: Tensor) -> None:
        super().__init__(size, keep_prob)
        self.count = like.new_zeros(GROUPS, 1, 1)
        self.deviations = like.new_zeros(GROUPS, 1, 1)
        self.masks = like.new_zeros(GROUPS, *size)
        self.products = like.new_zeros(GROUPS, *size)

    def _update(self, masks: FactoredMasks, deviations: Tensor, groups: Tensor) -> None:
        # sum_s y_s * left_s @ right_s is one product of the factors side by side, without the masks
        weighted = masks.left * deviations[:, None, None]
        for group, members in _each(groups):
            right = masks.right[members].flatten(0, 1)
            self.masks[group] += _side_by_side(masks.left[members]) @ right
            self.products[group] += _side_by_side(weighted[members]) @ right
            self.deviations[group] += deviations[members].sum()
            self.count[group] += int(members.sum())

    def attributions(self, groups: list[int] | None = None) -> Tensor:
        """The centered sum; over all groups the reference cancels out."""
        members = slice(None) if groups is None else groups
        count, total = self.count[members].sum().clamp_min(1), self.deviations[members].sum(0)
        centered = self.products[members].sum(0) - total * self.masks[members].sum(0) / count
        return torch.div(centered, count * self.keep_prob)

    def standard_error(self) -> Tensor:
        """From the spread of the group means, (H, W)."""
        used, count = self.count.flatten() > 0, self.count.sum()
        mean, mask = self.deviations.sum() / count, self.masks.sum(0) / count
        centered = self.products - mean * self.masks - mask * (self.deviations - mean * self.count)
        means = centered[used] / self.count[used]
        spread = means.std(0) if len(means) > 1 else torch.full_like(means[0], float("inf"))
        return torch.div(spread, len(means) ** 0.5 * self.keep_prob)


@final
class RegressionEstimator(ScoreEstimator):
    """The covariance of the part of the probability that is linear in the mask, which is all that a
    covariance measures.

    `Cov(y, M) = Cov(M) G` for the regression `y = a + <G, M>`, and `Cov(M)` is known exactly
    (`side_covariance`). So chance correlations among the masks do no harm, and only what is *not*
    linear in the mask is noise. It is a ridge regression on the leading patterns (principal
    components) of the masks, 16 per side for a grid size of 7, with the penalty from generalized
    cross-validation. With more samples it converges to the map of MeanEstimator, up to a thousandth
    of the masks' variance per side. Sums and results are float64 on the CPU.

    References:
        The equivalent control variate: Owen, "Monte Carlo theory, methods and examples", chapter
        8.9. The penalty: Golub, Heath & Wahba 1979, "Generalized cross-validation as a method for
        choosing a good ridge parameter", equation 1.3.
    """

    def __init__(
        self, size: tuple[int, int], grid_size: int, keep_prob: float, like: Tensor
    ) -> None:
        super().__init__(size, keep_prob)
        (self.down, down_variance), (self.across, across_variance) = (
            _patterns(side, grid_size) for side in size
        )
        self.variances = down_variance[:, None] * across_variance
        self.project = [patterns.to(like) for patterns in (self.down, self.across)]
        unknowns = self.variances.numel()
        self.squares = torch.zeros(GROUPS, unknowns, unknowns, dtype=torch.float64, device="cpu")
        self.sums = torch.zeros(GROUPS, unknowns, dtype=torch.float64, device="cpu")
        self.products = torch.zeros(GROUPS, unknowns, dtype=torch.float64, device="cpu")
        # number of samples, sum and sum of squares of their deviations
        self.moments = torch.zeros(GROUPS, 3, dtype=torch.float64, device="cpu")

    def _update(self, masks: FactoredMasks, deviations: Tensor, groups: Tensor) -> None:
        down, across = self.project
        coefficients = ((down.T @ masks.left) @ (masks.right @ across)).flatten(1)
        mean_mask = (down.sum(0)[:, None] * across.sum(0)).flatten()
        coefficients = coefficients - self.keep_prob * mean_mask
        for group, members in _each(groups):
            x, y = coefficients[members], deviations[members]
            self.squares[group] += (x.T @ x).cpu().double()
            self.sums[group] += x.sum(0).cpu().double()
            self.products[group] += (x.T @ y).cpu().double()
            powers = torch.stack([torch.ones_like(y), y, y.square()])
            self.moments[group] += powers.sum(1).cpu().double()

    def attributions(self, groups: list[int] | None = None) -> Tensor:
        """The map of the ridge solution, (H, W)."""
        values, vectors, targets, penalty, _ = self._solved(groups or list(range(GROUPS)))
        return self._map(vectors @ (targets / (values + penalty)))

    def standard_error(self) -> Tensor:
        """The posterior standard deviation of the Bayesian ridge: noise and shrinkage, (H, W)."""
        values, vectors, _, penalty, noise = self._solved(list(range(GROUPS)))
        variance = torch.zeros(self.size, dtype=torch.float64, device="cpu")
        for some in torch.split((vectors * (noise / (values + penalty)).sqrt()).T, _MAP_BATCH):
            variance += self._map(some).square().sum(0)
        return variance.sqrt()

    def _solved(self, groups: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Eigenvalues and eigenvectors of the centered X'X, X'y in their basis, the ridge penalty
        with the least generalized cross-validation score, and the residual variance.
        """
        count, total, power = self.moments[groups].sum(0)
        count = count.clamp_min(1)
        mean = self.sums[groups].sum(0) / count
        centered = self.squares[groups].sum(0) - count * torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(centered)
        values = values.clamp_min(0)
        targets = vectors.T @ (self.products[groups].sum(0) - total * mean)
        unit = values.sum() / min(len(values), max(1, int(count) - 1))
        unit = unit.clamp_min(torch.finfo(torch.float64).tiny)
        penalties = unit * torch.logspace(-4, 4, _STRENGTHS, dtype=torch.float64, device="cpu")
        shrunk = values + penalties[:, None]
        weights = targets / shrunk
        residual = power - total**2 / count - 2 * weights @ targets + weights.square() @ values
        residual, used = residual.clamp_min(0), 1 + (values / shrunk).sum(1)
        score = residual / (1 - used / count).square()
        score = torch.where(used < _MAX_USED * count, score, torch.inf)
        best = int(score.argmin()) if torch.isfinite(score).any() else _STRENGTHS - 1
        noise = residual[best] / (count - used[best]).clamp_min(1)
        return values, vectors, targets, penalties[best], noise

    def _map(self, weights: Tensor) -> Tensor:
        """Weights of the patterns, (..., patterns), to a map (..., H, W), float64."""
        grid = weights.view(*weights.shape[:-1], *self.variances.shape) * self.variances
        return torch.matmul((1 - self.keep_prob) * self.down @ grid, self.across.T)


def _patterns(side: int, grid_size: int) -> tuple[Tensor, Tensor]:
    """The leading principal components of masks along a side, (side, k), and their variances."""
    values, vectors = torch.linalg.eigh(side_covariance(side, grid_size))
    values, vectors = values.flip(0), vectors.flip(1)
    enough = int((values.cumsum(0) < _VARIANCE * values.sum()).sum()) + 1
    count = min(enough, _MAX_PATTERNS)
    return vectors[:, :count], values[:count]


def _each(groups: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each group that occurs, and which samples are its members."""
    for group in sorted(set(groups.tolist())):
        yield group, groups == group


def _side_by_side(factors: Tensor) -> Tensor:
    return factors.transpose(0, 1).flatten(1)
