"""From masks and the answers under them to a map: how much an answer rises where a pixel is kept,
and how sure that is.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from saliencykit.maskers.perturbation.random_masks import Factors, similarity

GROUPS = 8
"""Samples are dealt to so many groups, pairs together; from their spread comes the error. Even, for
the two halves.
"""
# of the masks, per side: what lies in finer patterns than that is left out of the regression
_VARIANCE = 0.999
_FINEST = 40  # patterns per side at most: 1600 unknowns are solved in a second
_STRENGTHS = 41  # of the ridge that are tried, from 1e-4 to 1e4 times the mean eigenvalue
_TOGETHER = 32  # maps of single patterns made at once: 13 MB at 224 px
# a fit may use at most so much of the samples' freedom; beyond it the cross-validation score is
# noise
_SPARE = 0.9


class ScoreEstimator(ABC):
    """Running sums over random masks and answers; from them the covariance of the answer with each
    pixel of the mask.
    """

    def __init__(self, size: tuple[int, int], keep: float) -> None:
        self.size, self.keep = size, keep
        self.seen = 0
        self.total = 0.0
        self.reference: float | None = None

    @final
    def add(self, masks: Factors, answers: Tensor) -> None:
        """Add masks in the order in which they were drawn, and the answers (n,) under them."""
        if self.reference is None:
            # sums of differences from about the mean keep their digits in float32
            self.reference = float(answers.mean())
        groups = torch.arange(self.seen, self.seen + len(answers)) // 2 % GROUPS
        above = answers - self.reference
        self.seen += len(answers)
        self.total += float(above.sum())
        self._add(masks, above, groups)

    @final
    def mean_answer(self) -> float:
        """The mean of all answers."""
        return (self.reference or 0.0) + self.total / max(1, self.seen)

    @final
    def agreement(self) -> float:
        """The expected correlation of this map with that of endless samples, from that of the two
        halves' maps; NaN if unknown.

        `sqrt(2 r / (1 + r))`, Spearman and Brown's formula for a test of double length, and the
        root for the correlation with the truth in place of another test's.

        References:
            Spearman 1910; Brown 1910; Nunnally 1978, "Psychometric Theory", chapter 6.
        """
        one, other = (
            self.scores(list(range(half, GROUPS, 2))).double().flatten() for half in (0, 1)
        )
        one, other = one - one.mean(), other - other.mean()
        lengths = one.norm() * other.norm()
        if lengths == 0:
            return float("nan")
        r = float(one @ other / lengths)
        return (2 * r / (1 + r)) ** 0.5 if r > 0 else 0.0

    @abstractmethod
    def scores(self, groups: list[int] | None = None) -> Tensor:
        """Covariance over `keep`, (H, W), from some of the groups or all; LinearFit's lie on the
        CPU, in float64.
        """

    @abstractmethod
    def error(self) -> Tensor:
        """The standard error of the scores, (H, W)."""

    @abstractmethod
    def _add(self, masks: Factors, above: Tensor, groups: Tensor) -> None: ...


@final
class MeanEstimator(ScoreEstimator):
    """`mean((y - mean y) * (M - mean M)) / keep`: the published sum, centred. Right for any masks;
    needs most of them.
    """

    def __init__(self, size: tuple[int, int], keep: float, like: Tensor) -> None:
        super().__init__(size, keep)
        self.count = like.new_zeros(GROUPS, 1, 1)
        self.answers = like.new_zeros(GROUPS, 1, 1)
        self.masks = like.new_zeros(GROUPS, *size)
        self.products = like.new_zeros(GROUPS, *size)

    def _add(self, masks: Factors, above: Tensor, groups: Tensor) -> None:
        # sum_s y_s * left_s @ right_s is one product of the factors side by side: no mask is made
        # again
        weighted = masks.left * above[:, None, None]
        for group in sorted(set(groups.tolist())):
            mine = (groups == group).to(above.device)
            right = masks.right[mine].flatten(0, 1)
            self.masks[group] += _side_by_side(masks.left[mine]) @ right
            self.products[group] += _side_by_side(weighted[mine]) @ right
            self.answers[group] += above[mine].sum()
            self.count[group] += int(mine.sum())

    def scores(self, groups: list[int] | None = None) -> Tensor:
        """See AnswerMap; over all groups the reference cancels out."""
        mine = slice(None) if groups is None else groups
        count = self.count[mine].sum().clamp_min(1)
        centred = (
            self.products[mine].sum(0) - self.answers[mine].sum(0) * self.masks[mine].sum(0) / count
        )
        return torch.div(centred, count * self.keep)

    def error(self) -> Tensor:
        """From the spread of the groups' means, (H, W)."""
        used = self.count.flatten() > 0
        mean, masks = self.answers.sum() / self.count.sum(), self.masks.sum(0) / self.count.sum()
        centred = self.products - mean * self.masks - masks * (self.answers - mean * self.count)
        means = centred[used] / self.count[used]
        spread = means.std(0) if len(means) > 1 else torch.full_like(means[0], float("inf"))
        return torch.div(spread, len(means) ** 0.5 * self.keep)


@final
class RegressionEstimator(ScoreEstimator):
    """The covariance of the part of the answer that is linear in the mask, which is all that a
    covariance sees.

    `Cov(y, M) = Cov(M) G` for the regression `y = a + <G, M>`, and `Cov(M)` is known without
    drawing (see `similarity`). So the masks' chance correlations do no harm, and only what is *not*
    linear in the mask, or new, is noise. Ridge with its strength from generalised cross-validation,
    in the leading patterns of the masks (16 per side for 7 cells); with more samples it tends to
    the same map as SampleMean, but for a thousandth of the masks' variance per side.

    References:
        The control variate that it amounts to: Owen, "Monte Carlo theory, methods and examples",
        chapter 8.9. The strength: Golub, Heath & Wahba 1979, "Generalized cross-validation as a
        method for choosing a good ridge parameter", equation 1.3.
    """

    def __init__(self, size: tuple[int, int], cells: int, keep: float, like: Tensor) -> None:
        super().__init__(size, keep)
        (self.down, self.tall), (self.across, self.wide) = (_patterns(side, cells) for side in size)
        unknowns = self.down.shape[1] * self.across.shape[1]
        self.project = [patterns.to(like) for patterns in (self.down, self.across)]
        self.squares = torch.zeros(GROUPS, unknowns, unknowns, dtype=torch.float64)
        self.sums = torch.zeros(GROUPS, unknowns, dtype=torch.float64)
        self.products = torch.zeros(GROUPS, unknowns, dtype=torch.float64)
        # how many, their sum, the sum of their squares
        self.answers = torch.zeros(GROUPS, 3, dtype=torch.float64)

    def _add(self, masks: Factors, above: Tensor, groups: Tensor) -> None:
        patterns = ((self.project[0].T @ masks.left) @ (masks.right @ self.project[1])).flatten(1)
        patterns = (
            patterns
            - self.keep * (self.project[0].sum(0)[:, None] * self.project[1].sum(0)).flatten()
        )
        for group in sorted(set(groups.tolist())):
            mine = (groups == group).to(above.device)
            x, y = patterns[mine], above[mine]
            self.squares[group] += (x.T @ x).cpu().double()
            self.sums[group] += x.sum(0).cpu().double()
            self.products[group] += (x.T @ y).cpu().double()
            self.answers[group] += (
                torch.stack([torch.ones_like(y), y, y.square()]).sum(1).cpu().double()
            )

    def scores(self, groups: list[int] | None = None) -> Tensor:
        """See AnswerMap."""
        values, vectors, along, answers = self._solved(groups)
        strength, _ = self._strength(values, along, answers)
        return self._map(vectors @ (along / (values + strength)))

    def error(self) -> Tensor:
        """The posterior standard deviation of the ridge's Bayesian reading, noise and shrinkage
        together, (H, W).
        """
        values, vectors, along, answers = self._solved(None)
        strength, noise = self._strength(values, along, answers)
        variance = torch.zeros(self.size, dtype=torch.float64)
        for some in torch.split((vectors * (noise / (values + strength)).sqrt()).T, _TOGETHER):
            variance += self._map(some).square().sum(0)
        return variance.sqrt()

    def _solved(self, groups: list[int] | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Eigenvalues and -vectors of the patterns' squares, the products along them, the answers'
        count and sum of squares.
        """
        squares, products, answers = self._moments(
            list(range(GROUPS)) if groups is None else groups
        )
        values, vectors = torch.linalg.eigh(squares)
        return values.clamp_min(0), vectors, vectors.T @ products, answers

    def _moments(self, groups: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Centred sums of squares and products, and how many samples with what sum of squares."""
        squares, sums, products = (
            self.squares[groups].sum(0),
            self.sums[groups].sum(0),
            self.products[groups].sum(0),
        )
        count, total, power = self.answers[groups].sum(0)
        count = count.clamp_min(1)
        mean = sums / count
        return (
            squares - count * torch.outer(mean, mean),
            products - total * mean,
            torch.stack([count, power - total**2 / count]),
        )

    def _strength(self, values: Tensor, along: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """The ridge with the least generalised cross-validation score, and the variance of what it
        leaves.
        """
        count, power = answers
        unit = values.sum() / min(len(values), max(1, int(count) - 1))
        tried = unit.clamp_min(torch.finfo(torch.float64).tiny) * torch.logspace(
            -4, 4, _STRENGTHS, dtype=torch.float64
        )
        weights = along / (values + tried[:, None])
        left = (power - 2 * weights @ along + weights.square() @ values).clamp_min(0)
        used = 1 + (values / (values + tried[:, None])).sum(1)
        score = torch.where(used < _SPARE * count, left / (1 - used / count).square(), torch.inf)
        best = int(score.argmin()) if torch.isfinite(score).any() else _STRENGTHS - 1
        return tried[best], left[best] / (count - used[best]).clamp_min(1)

    def _map(self, weights: Tensor) -> Tensor:
        """(..., patterns) to (..., H, W), float64."""
        grid = (
            weights.reshape(*weights.shape[:-1], len(self.tall), len(self.wide))
            * self.tall[:, None]
            * self.wide
        )
        return torch.matmul((1 - self.keep) * self.down @ grid, self.across.T)


def _patterns(side: int, cells: int) -> tuple[Tensor, Tensor]:
    """The leading patterns of masks along a side, (side, k), and the variance of each, (k,)."""
    values, vectors = torch.linalg.eigh(similarity(side, cells))
    values, vectors = values.flip(0), vectors.flip(1)
    enough = int((values.cumsum(0) < _VARIANCE * values.sum()).sum()) + 1
    return vectors[:, : min(enough, _FINEST)], values[: min(enough, _FINEST)]


def _side_by_side(factors: Tensor) -> Tensor:
    return factors.transpose(0, 1).flatten(1)
