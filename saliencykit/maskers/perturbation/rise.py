"""RISE: random masks, and how the probability covaries with each pixel of the mask."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, final

import torch
from torch import Generator

from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.maskers.perturbation.random_masks import Sampling, draw_masks
from saliencykit.maskers.perturbation.score_estimators import (
    MeanEstimator,
    RegressionEstimator,
    ScoreEstimator,
)
from saliencykit.maskers.query_engine import (
    ROUNDING,
    MaskedQueries,
    masked_queries,
)

Estimate = Literal["linear", "mean"]

_BASELINE = Constant(color="zero")
_CHECK_EVERY = 128  # masks between two checks of the correlation
_FIRST_CHECK = 256  # with fewer masks the two halves say little


@final
@dataclass(frozen=True, kw_only=True)
class Rise(Masker):
    """The covariance of p(label) under random masks with each pixel of the mask.

    `attributions = Cov(y, M) / keep_prob`, with the probability `y` under the mask `M`: the
    published map minus `mean y * mean M / keep_prob`, its value where a pixel makes no difference.
    It is about the mean probability with the pixel kept, minus the mean probability. It needs only
    queries and shows several objects. The map is as coarse as the grid, and noisy: `standard_error`
    says how much.

    The published sum needs thousands of masks. Here masks come in antithetic pairs, and the
    covariance is that of the regression of y on M, with the covariance of the masks known exactly:
    the same map from a fourth to an eighth of the masks (`docs/results/speed.md`).
    `sampling="random", estimate="mean"` is the published method.

    The mask is the positive part of the attributions divided by their maximum. Memory does not
    depend on the number of samples: masks are products of two small matrices, computed per batch.

    Args:
        samples: Masks per image, one query each, >= 2; with `target_correlation` the maximum. The
            paper uses 4000 to 8000.
        grid_size: Random cells per side, >= 1; 7 in the paper. Beyond 18 `linear` leaves out the
            finest patterns of the masks.
        keep_prob: Probability that a cell is kept, in (0, 1).
        alternative: What replaces dropped cells. By default the color that the model's
            normalization maps to 0, as published. A random one (noise, a choice) is drawn once per
            image.
        target_correlation: In (0, 1): stop once the expected correlation with the map of infinitely
            many masks, estimated from two halves, reaches this. 0.95 takes 250 to 500 masks for
            most photos. Warns if `samples` did not suffice. None: use all samples.
        sampling: `antithetic` pairs of a mask and one minus it, or `random` masks, as published.
        estimate: `linear`, by regression (`RegressionEstimator`), or `mean`, the published sum,
            centered (`MeanEstimator`).
        sharpen: A masker with a field `evidence`, such as `Universal()`: it gets this map, and its
            mask is returned. None: no other masker.

    Raises:
        InputError: A number is out of range, or `sharpen` takes no evidence.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Rise(samples=32)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Petsiuk et al. 2018, "RISE", section 3, equations 6 and 7, and 3.2 for the masks.
    """

    samples: Annotated[int, "[2, inf)"] = 1000
    grid_size: Annotated[int, "[1, inf)"] = 7
    keep_prob: Annotated[float, "(0, 1)"] = 0.5
    alternative: Alternative = _BASELINE
    target_correlation: Annotated[float | None, "(0, 1)"] = None
    sampling: Sampling = "antithetic"
    estimate: Estimate = "linear"
    sharpen: Masker | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.sharpen is not None and not hasattr(self.sharpen, "evidence"):
            raise InputError(
                f"Rise(sharpen={self.sharpen!r}): expected a masker that takes the map of another "
                "one as its evidence, such as Universal()."
            )

    def evaluations(self, black_box: BlackBox, images: Images) -> int | None:
        """One for each mask, unless it stops early, and one to sharpen the map."""
        more = self.sharpen is not None
        return self.samples + more if self.target_correlation is None else None

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Attributions with their standard error per pixel, and their positive part as the mask."""
        if self.sharpen is not None:
            taking: Any = self.sharpen
            output: MaskerOutput = replace(taking, evidence=replace(self, sharpen=None)).mask(
                black_box, images, labels, generator
            )
            return output
        every = masked_queries(black_box, images, labels, self.alternative, generator)
        estimators = [self._estimated(queries) for queries in every]
        like = images.new_zeros((), dtype=torch.promote_types(images.dtype, torch.float32))
        attributions = torch.stack([each.attributions() for each in estimators])[:, None].to(like)
        error = torch.stack([each.standard_error() for each in estimators])[:, None].to(like)
        floor = like.new_tensor([abs(each.mean_evidence()) for each in estimators]) * ROUNDING
        return MaskerOutput(mask_from_attributions(attributions, floor), attributions, error)

    def _estimated(self, queries: MaskedQueries) -> ScoreEstimator:
        image = queries.image
        size = (image.shape[2], image.shape[3])
        like = image.new_zeros((), dtype=torch.promote_types(image.dtype, torch.float32))
        estimator: ScoreEstimator = MeanEstimator(size, self.keep_prob, like)
        if self.estimate == "linear":
            estimator = RegressionEstimator(size, self.grid_size, self.keep_prob, like)
        drawn = (self.samples, self.grid_size, self.keep_prob, self.sampling)
        for block in draw_masks(image, *drawn, generator=queries.generator):
            for first in range(0, len(block), _CHECK_EVERY):
                some = block[first : first + _CHECK_EVERY]
                logits = queries.logits(len(some), some.masks)
                estimator.update(some, queries.evidence(logits).to(like))
                if self._is_enough(estimator):
                    return estimator
        return estimator

    def _is_enough(self, estimator: ScoreEstimator) -> bool:
        if self.target_correlation is None or estimator.num_samples < _FIRST_CHECK:
            return False
        reached = estimator.expected_correlation()
        # NaN: no probability depends on the mask
        if math.isnan(reached) or reached >= self.target_correlation:
            return True
        if estimator.num_samples >= self.samples:
            warnings.warn(
                f"rise: after {self.samples} masks the expected correlation with the map of "
                f"infinitely many masks is {reached:.2f}, below target_correlation="
                f"{self.target_correlation}; use more masks: samples={2 * self.samples}.",
                ReliabilityWarning,
                stacklevel=2,
            )
        return False
