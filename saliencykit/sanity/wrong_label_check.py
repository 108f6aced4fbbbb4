"""wrong_label(): does the mask change when another class is explained?"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Generator

from saliencykit.core import checks
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, PerImage
from saliencykit.evaluation.bootstrap import weights
from saliencykit.sanity.check_result import CheckResult
from saliencykit.sanity.estimate import Estimate
from saliencykit.sanity.masks import CheckedMasker, OnStage
from saliencykit.sanity.similarity import similarity
from saliencykit.training.absent_labels import other_labels

_BOUND = 0.5


@final
@dataclass(frozen=True, kw_only=True)
class WrongLabel(CheckResult):
    """The result of `wrong_label`.

    Attributes:
        area: Mean mask for the own class.
        other_area: Mean mask for other classes.
        ratio: The second divided by the first; a ratio of means, so that an image with hardly any
            mask does not dominate.
        correlation: Of both masks, image by image.
        ratios: Per image; NaN where the own mask is empty or one is missing.
        correlations: Per image; NaN where one is missing.
        missing: Why masks are missing, and of how many images.
        passed: See `rule`; None if it is unclear.
    """

    area: Estimate
    other_area: Estimate
    ratio: Estimate
    correlation: Estimate
    ratios: tuple[float, ...]
    correlations: tuple[float, ...]

    name: ClassVar[str] = "wrong-label"
    rule: ClassVar[str] = (
        f"another class's mask has less than {_BOUND} of the area of the own class's, or a "
        f"correlation with it below {_BOUND}"
    )

    @property
    def summary(self) -> str:
        """The estimates in a line of text."""
        return (
            f"Another class gets {self.ratio} of the area of the own class "
            f"({self.other_area.mean:.3f} for {self.area.mean:.3f}), correlation "
            f"{self.correlation}, n={self.correlation.n}"
        )


def wrong_label(
    model: object,
    masker: Masker | str,
    images: Images,
    labels: Labels | None = None,
    *,
    others: int = 2,
    seed: int = 0,
    batch_size: int = 16,
    on_stage: OnStage | None = None,
) -> WrongLabel:
    """Compare the mask for an image's own class with those for classes that the image does not
    show.

    Protocol: each image gets a mask for its own class, and one for each of `others` classes drawn
    uniformly from the rest. Per image the ratio of the means of both masks, and their correlation
    over the pixels (`similarity`: 1 for two constant masks), are averaged over the other classes;
    then over the images, with 95% confidence intervals (percentile bootstrap). **Passes** if the
    interval of the ratio or that of the correlation is below 0.5: a masker that finds nothing of an
    absent class has another area, one whose maps are always stretched to [0, 1] another place.
    Fails if neither is, or if the own masks are empty; otherwise unclear.

    Works for any masker. It is cheap, and finds maskers that show whatever is salient, or edges,
    for every class: the center box, guided backpropagation, a trained network that learned to
    segment. Noise that is new for each class passes; whether the mask is right is what metrics
    measure.

    Args:
        model: As for `explain`.
        masker: A Masker, a text, or a trained masker's file.
        images: (N, C, H, W) as the model takes them, N >= 2.
        labels: (N,), the own classes. None: the model's predictions.
        others: Number of other classes per image, >= 1.
        seed: Random seed.
        batch_size: Images per batch.
        on_stage: Called with stage, done and total.

    Raises:
        InputError: There are fewer than two images, the model has one class, or there is no mask of
            any image.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(0))
        >>> result = wrong_label(black_box, "center-box", images)
        >>> result.passed, str(result.correlation)
        (False, '1.00 [1.00, 1.00]')

    References:
        Stalder et al. 2022, "What You See is What You Classify", section 4, class specificity;
        Dabkowski & Gal 2017, section 4.4, which trains with labels of absent classes to this end.
        The bounds are ours.
    """
    checks.counts("wrong_label", others=others)
    checked = CheckedMasker.of(
        "wrong_label", model, masker, images, labels, seed, batch_size, on_stage, at_least=2
    )
    if checked.black_box.num_classes < 2:
        raise InputError("wrong_label explains other classes, and the model has only one.")
    own = checked.masks(checked.labels, "own class")
    areas, similarities, missing = list[PerImage](), list[PerImage](), Counter(own.failures)
    generator = Generator().manual_seed(seed)
    for number in range(1, others + 1):
        stage = "other class" if others == 1 else f"other class {number} of {others}"
        wrong = other_labels(checked.labels, checked.black_box.num_classes, generator)
        masks = checked.masks(wrong, stage)
        missing.update(masks.failures)
        areas.append(masks.values.mean((1, 2, 3)))
        similarities.append(similarity(own.values, masks.values))
    area, other = own.values.mean((1, 2, 3)), torch.stack(areas).nanmean(0)
    correlations = torch.stack(similarities).nanmean(0)
    ratio, correlation = _ratio_of_means(other, area, seed), Estimate.of(correlations, seed)
    differs = (ratio.is_below(_BOUND), correlation.is_below(_BOUND))
    passed = True if True in differs else None if None in differs else False
    return WrongLabel(
        area=Estimate.of(area, seed),
        other_area=Estimate.of(other, seed),
        ratio=ratio,
        correlation=correlation,
        ratios=tuple(torch.where(area > 0, other / area, float("nan")).tolist()),
        correlations=tuple(correlations.tolist()),
        missing=dict(missing),
        passed=passed if ratio.n else False,
    )


def _ratio_of_means(above: PerImage, below: PerImage, seed: int) -> Estimate:
    """The ratio of two means over the same images, resampled together; NaN if the denominator is
    0.
    """
    known = ~(above + below).isnan()
    one, other = above[known].double().numpy(), below[known].double().numpy()
    if not other.sum() > 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    resampled = weights(len(one), resamples=2000, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.nanpercentile((resampled @ one) / (resampled @ other), [2.5, 97.5])
    return Estimate(float(one.mean() / other.mean()), float(ends[0]), float(ends[1]), len(one))
