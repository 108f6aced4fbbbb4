"""AreaCurves: the class probability with the best pixels only, and without them, by area."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, final

from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import (
    check_fractions,
    make_perturber,
    probabilities,
)
from saliencykit.metrics.ranking import best, ranks

_BLUR = Blur()


@dataclass(frozen=True, kw_only=True)
class CurvesAtAreas(Metric):
    """Base of the metrics that measure both curves, as a mean over one or more alternatives."""

    areas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5)

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_fractions(self, "areas", self.areas)

    @abstractmethod
    def _alternatives(self) -> tuple[Alternative, ...]:
        """What replaces the pixels that are not shown."""

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
        """`gap`; `kept_0.05` and so on, higher is better; `dropped_0.05` and so on, lower is
        better.
        """
        places = ranks(mask)
        optimized = black_box.optimized_for(sample.images)
        curves = []
        for alternative in self._alternatives():
            perturb = make_perturber(black_box, sample.images, alternative, generator)
            chosen = (best(places, area) for area in self.areas)
            perturbed = chain.from_iterable((perturb(some), perturb(~some)) for some in chosen)
            output = relative_output(optimized, sample.images, alternative, generator)
            curves.append(probabilities(optimized, sample.labels, perturbed, output))
        mean = sum(curves[1:], curves[0]) / len(curves)
        kept, dropped = mean[0::2], mean[1::2]
        return {
            "gap": (kept - dropped).mean(0),
            **{f"kept_{area:g}": value for area, value in zip(self.areas, kept, strict=True)},
            **{f"dropped_{area:g}": value for area, value in zip(self.areas, dropped, strict=True)},
        }


@final
@dataclass(frozen=True, kw_only=True)
class AreaCurves(CurvesAtAreas):
    """The label's probability with only the best pixels shown, and with only them removed, at given
    areas.

    `gap` is the mean over the areas of kept minus dropped, in [-1, 1]: high where few pixels
    suffice and nothing else does. All maps keep exactly the same area, so a large mask is no
    advantage; only the order of the map counts, ties are broken by the distance from the center
    (`saliencykit.metrics.ranks`). A mask that was optimized against an alternative can exploit it:
    give this metric another one. Two queries per area and image.

    Args:
        alternative: Replaces the pixels that are not shown; drawn once per image, the same for all
            areas and maps.
        areas: Fractions of the image in (0, 1), in ascending order, each rounded to whole pixels.

    Raises:
        InputError: `areas` or `alternative` cannot be used.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = AreaCurves(areas=(0.1,))
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'gap': 0.74, 'kept_0.1': 1.0, 'dropped_0.1': 0.26}

    References:
        Dabkowski & Gal 2017, section 2: the smallest sufficient and the smallest destroying region,
        of which these are the two curves. Fong et al. 2019, "Understanding deep networks via
        extremal perturbations", section 3: comparing masks at equal areas.
    """

    alternative: Alternative = _BLUR

    def _alternatives(self) -> tuple[Alternative, ...]:
        return (self.alternative,)
