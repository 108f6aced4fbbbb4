"""SmallestSufficientRegion and SmallestDestroyingRegion: how many of the best pixels keep a
decision, and how many must be removed to lose it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.ranking import ranks
from saliencykit.metrics.region_search import RegionSearch

_BLUR = Blur()


@dataclass(frozen=True, kw_only=True)
class _SmallestRegion(Metric):
    """The area at which the probability passes a limit, by bisection between no pixel and all."""

    confidence: Annotated[float, "(0, 1)"]
    relative_to: Literal["whole", "value"] = "whole"
    alternative: Alternative = _BLUR
    resolution: Annotated[float, "(0, 0.5]"] = 1 / 256

    higher_is_better: ClassVar[bool] = False
    keeps: ClassVar[bool]  # are the best pixels kept alone, or removed?

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
        """`area`, a fraction of the image in [0, 1], and the label's `probability` at that area."""
        search = RegionSearch(
            keeps=self.keeps,
            limit=self.confidence,
            relative_to=self.relative_to,
            resolution=self.resolution,
        )
        found = search(
            black_box.optimized_for(sample.images),
            sample.images,
            sample.labels,
            ranks(mask),
            alternative=self.alternative,
            generator=generator,
        )
        return {"area": found.area, "probability": found.probability}


@final
@dataclass(frozen=True, kw_only=True)
class SmallestSufficientRegion(_SmallestRegion):
    """The smallest sufficient region (SSR): the fraction of best pixels that keep the decision.

    With only the best `area` of the pixels shown, on the alternative, the label has at least the
    required probability. Bisection finds an area where that is so and, `resolution` below it, is
    not. More pixels do not always mean a higher probability: there may be smaller areas that
    suffice and larger ones that do not, so it is the smallest only where the curve crosses the
    limit once. Lower is better. All images of the batch are queried together, `2 + log2(1 /
    resolution)` queries each. Ties are broken by the distance from the center
    (`saliencykit.metrics.ranks`).

    NaN where the whole image does not have the required probability (only with
    `relative_to="value"`); 0 where the alternative alone has it. Both depend on the image, never on
    the map.

    Args:
        confidence: The required probability of the label, in (0, 1).
        relative_to: `whole`: as a fraction of the whole image's probability; `value`: the
            probability itself.
        alternative: Replaces the pixels that are not shown; drawn once per image.
        resolution: Precision of the area, a fraction of the image in (0, 0.5].

    Raises:
        InputError: An argument is out of range, or the alternative cannot be used.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = SmallestSufficientRegion()
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> scores["area"].item() <= truth.mean().item()
        True

    References:
        Dabkowski & Gal 2017, section 2, "smallest sufficient region".
    """

    confidence: Annotated[float, "(0, 1)"] = 0.9

    keeps: ClassVar[bool] = True


@final
@dataclass(frozen=True, kw_only=True)
class SmallestDestroyingRegion(_SmallestRegion):
    """The smallest destroying region (SDR): the fraction of best pixels whose removal loses the
    decision.

    With the best `area` of the pixels replaced by the alternative, the label has at most the given
    probability. Bisection finds an area where that is so and, `resolution` below it, is not.
    Removing more does not always lower the probability: there may be smaller areas that destroy the
    decision and larger ones that do not, so it is the smallest only where the curve crosses the
    limit once. Lower is better. All images of the batch are queried together, `2 + log2(1 /
    resolution)` queries each. Ties are broken by the distance from the center
    (`saliencykit.metrics.ranks`).

    NaN where the whole image does not exceed that probability (only with `relative_to="value"`),
    and where even the alternative alone exceeds it. Both depend on the image, never on the map.

    Args:
        confidence: The probability of the label at which the decision counts as lost, in (0, 1).
        relative_to: `whole`: as a fraction of the whole image's probability; `value`: the
            probability itself.
        alternative: Replaces the pixels that are removed; drawn once per image.
        resolution: Precision of the area, a fraction of the image in (0, 0.5].

    Raises:
        InputError: An argument is out of range, or the alternative cannot be used.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = SmallestDestroyingRegion(confidence=0.5)
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> scores["area"].item() <= truth.mean().item()
        True

    References:
        Dabkowski & Gal 2017, section 2, "smallest destroying region".
    """

    confidence: Annotated[float, "(0, 1)"] = 0.1

    keeps: ClassVar[bool] = False
