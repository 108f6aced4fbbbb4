"""Insertion and Deletion: the class probability as pixels are inserted or deleted by rank."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import make_perturber, probabilities
from saliencykit.metrics.ranking import best, ranks

_BLUR = Blur()
_ZERO = Constant(color="zero")


@dataclass(frozen=True, kw_only=True)
class _PixelCurve(Metric):
    """The area under the label's probability as a function of the fraction of best pixels."""

    alternative: Alternative
    steps: Annotated[int, "[1, inf)"] = 28

    @abstractmethod
    def _visible(self, best_pixels: Tensor) -> Tensor:
        """The pixels that are shown, (B, 1, H, W) bool, given the best ones."""

    @final
    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`auc`, and the probabilities at the two ends of the curve, `start` and `end`."""
        places, steps = ranks(mask), self.steps
        perturb = make_perturber(black_box, sample.images, self.alternative, generator)
        visible = (self._visible(best(places, step / steps)) for step in range(steps + 1))
        optimized = black_box.optimized_for(sample.images)
        output = relative_output(optimized, sample.images, self.alternative, generator)
        curve = probabilities(optimized, sample.labels, map(perturb, visible), output)
        auc = (curve.sum(0) - (curve[0] + curve[-1]) / 2) / steps
        return {"auc": auc, "start": curve[0], "end": curve[-1]}


@final
@dataclass(frozen=True, kw_only=True)
class Insertion(_PixelCurve):
    """The best pixels are inserted first, into an image that is all alternative: how soon does the
    class come back?

    `auc` is the area under the label's probability as a function of the fraction of pixels shown,
    0, 1/steps, ..., 1, by the trapezoid rule; in [0, 1]. Only the order of the map counts; ties are
    broken by the distance from the center (`saliencykit.metrics.ranks`). It rewards maps that show
    the class early; the perturbed images are unlike photos, and their outlines are evidence of
    their own. `steps + 1` queries per image.

    Args:
        alternative: What the image starts from; drawn once per image. The default is our blur; the
            authors' is a truncated kernel of 11 px with sigma 5, at 224 px about `Blur(sigma=3)`.
        steps: Number of equal steps, >= 1. The authors take a row of 224 pixels each; 28 are eight
            rows each (on six photos the insertion area of 28 was within 0.007 of that of 224, 0.001
            on average; of 14, 0.016 and 0.005).

    Raises:
        InputError: `steps` or `alternative` cannot be used.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = Insertion()
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'auc': 0.98, 'start': 0.26, 'end': 1.0}

    References:
        Petsiuk et al. 2018, "RISE", section on evaluation metrics: insertion.
    """

    alternative: Alternative = _BLUR

    higher_is_better: ClassVar[bool] = True

    def _visible(self, best_pixels: Tensor) -> Tensor:
        return best_pixels


@final
@dataclass(frozen=True, kw_only=True)
class Deletion(_PixelCurve):
    """The best pixels are removed first, replaced by the alternative: how soon is the class lost?

    `auc` is the area under the label's probability as a function of the fraction of pixels removed,
    0, 1/steps, ..., 1, by the trapezoid rule; in [0, 1], lower is better. Only the order of the map
    counts; ties are broken by the distance from the center (`saliencykit.metrics.ranks`). Scattered
    single pixels, replaced by one color, confuse a network quickly whatever they showed: noisy
    gradient maps score well here, so look at insertion too. `steps + 1` queries per image.

    Args:
        alternative: What pixels turn into; drawn once per image. The default is what the model's
            normalization maps to 0, as the authors do; `Constant(color=0.5)` is gray.
        steps: Number of equal steps, >= 1; see `Insertion`.

    Raises:
        InputError: `steps` or `alternative` cannot be used.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = Deletion(alternative=Constant(color=0.5))
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'auc': 0.28, 'start': 1.0, 'end': 0.25}

    References:
        Petsiuk et al. 2018, "RISE", section on evaluation metrics: deletion; Samek et al. 2017,
        "Evaluating the visualization of what a deep neural network has learned", section III, the
        region perturbation that it goes back to.
    """

    alternative: Alternative = _ZERO

    higher_is_better: ClassVar[bool] = False

    def _visible(self, best_pixels: Tensor) -> Tensor:
        return ~best_pixels
