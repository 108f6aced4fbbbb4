"""Insertion and Deletion: the class's probability as pixels come or go in the order of the map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import check_alternative, make_perturber, probabilities
from saliencykit.metrics.ranking import best, ranks

_BLUR = Blur()
_ZERO = Constant(color="zero")


@final
@dataclass(frozen=True, kw_only=True)
class Insertion(Metric):
    """The best pixels appear first, on a picture of which only the alternative was left: how soon
    does the class come back?

    `auc` is the area under the label's probability as a function of the share of pixels shown, 0,
    1/steps, ..., 1, by the trapezoid rule; in [0, 1]. Only the order of the map counts, ties are
    broken by distance from the middle (`saliencykit.metrics.ranking`). It rewards maps that show
    the class early; the edits are unlike photos, and their outlines are evidence of their own.
    `steps + 1` queries per image.

    Args:
        alternative: What the picture starts from; drawn once per picture. By default our blur; the
            authors' is a truncated kernel of 11 px with sigma 5, at 224 px about `Blur(sigma=3)`.
        steps: Into how many equal steps the pixels are cut, >= 1. The authors take a row of 224
            each; 28 are eight rows each (on six photos the insertion area of 28 was within 0.007 of
            that of 224, 0.001 on average; of 14, 0.016 and 0.005).

    Raises:
        InputError: The number of steps or the alternative is none.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> scores = Insertion()(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'auc': 0.98, 'start': 0.26, 'end': 1.0}

    References:
        Petsiuk et al. 2018, "RISE", section on evaluation metrics: insertion.
    """

    alternative: Alternative = _BLUR
    steps: int = 28

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check(self, self.alternative, self.steps)

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`auc`; and the probability with which the curve starts and ends: of the alternative alone
        and of the picture.
        """
        return _curve(
            black_box, sample, ranks(mask), self.alternative, self.steps, generator, insert=True
        )


@final
@dataclass(frozen=True, kw_only=True)
class Deletion(Metric):
    """The best pixels go first, replaced by the alternative: how soon is the class lost?

    `auc` is the area under the label's probability as a function of the share of pixels removed, 0,
    1/steps, ..., 1, by the trapezoid rule; in [0, 1], lower is better. Only the order of the map
    counts, ties are broken by distance from the middle (`saliencykit.metrics.ranking`). Scattered
    single pixels, replaced by one colour, confuse a network quickly whatever they showed: noisy
    gradient maps do well here, so look at insertion too. `steps + 1` queries per image.

    Args:
        alternative: What pixels turn into; drawn once per picture. By default what the model's
            normalisation maps to 0, as the authors do; `Constant(color=0.5)` is grey.
        steps: Into how many equal steps the pixels are cut, >= 1. The authors take a row of 224
            each; 28 are eight rows each (on six photos the insertion area of 28 was within 0.007 of
            that of 224, 0.001 on average; of 14, 0.016 and 0.005).

    Raises:
        InputError: The number of steps or the alternative is none.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> scores = Deletion(alternative=Constant(color=0.5))(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'auc': 0.28, 'start': 1.0, 'end': 0.25}

    References:
        Petsiuk et al. 2018, "RISE", section on evaluation metrics: deletion; Samek et al. 2017,
        "Evaluating the visualization of what a deep neural network has learned", section III, the
        region perturbation that it goes back to.
    """

    alternative: Alternative = _ZERO
    steps: int = 28

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check(self, self.alternative, self.steps)

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`auc`; and the probability with which the curve starts and ends: of the picture and of
        the alternative alone.
        """
        return _curve(
            black_box, sample, ranks(mask), self.alternative, self.steps, generator, insert=False
        )


def _check(metric: Metric, alternative: Alternative, steps: int) -> None:
    check_alternative(metric, alternative)
    if not isinstance(steps, int) or steps < 1:
        raise InputError(
            f"{name_of(metric)}(steps={steps!r}) takes a whole number of steps, at least 1, such "
            "as 28."
        )


def _curve(
    black_box: BlackBox,
    sample: Sample,
    places: Tensor,
    alternative: Alternative,
    steps: int,
    generator: Generator,
    *,
    insert: bool,
) -> dict[str, PerImage]:
    edit = make_perturber(black_box, sample.images, alternative, generator)
    shown = (best(places, step / steps) for step in range(steps + 1))
    edits = (edit(chosen if insert else ~chosen) for chosen in shown)
    curve = probabilities(black_box.optimized_for(sample.images), sample.labels, edits)
    auc = (curve.sum(0) - (curve[0] + curve[-1]) / 2) / steps
    return {"auc": auc, "start": curve[0], "end": curve[-1]}
