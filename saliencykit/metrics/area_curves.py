"""AreaCurves: what the best pixels keep and what their loss leaves, at equal areas."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, final

from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import (
    check_alternative,
    check_shares,
    make_perturber,
    probabilities,
)
from saliencykit.metrics.ranking import best, ranks

_BLUR = Blur()


@final
@dataclass(frozen=True, kw_only=True)
class AreaCurves(Metric):
    """The label's probability where only the best pixels are kept, and where they are all that is
    lost, at stated areas.

    `gap` is the mean over the areas of kept less dropped, in [-1, 1]: high where few pixels suffice
    and nothing else does. All maps keep exactly as much, so a large mask is no advantage; only the
    order of the map counts, ties are broken by distance from the middle
    (`saliencykit.metrics.ranking`). A mask that was optimised against a fill can exploit that fill:
    give this metric another one than the masker was made with. Two queries per area and image.

    Args:
        alternative: What stands where pixels are not shown; drawn once per picture, the same for
            all areas and maps.
        areas: Shares of the picture in (0, 1), each larger than the one before; of each, rounded,
            as many pixels are best.

    Raises:
        InputError: The areas are none, or the alternative is not one.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> scores = AreaCurves(areas=(0.1, 0.3))(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'gap': 0.74, 'kept_0.1': 1.0, 'kept_0.3': 1.0, 'dropped_0.1': 0.26, 'dropped_0.3': 0.26}

    References:
        Dabkowski & Gal 2017, section 2: the smallest sufficient and the smallest destroying region,
        of which these are the two curves. Fong et al. 2019, "Understanding deep networks via
        extremal perturbations", section 3: comparing masks at equal areas.
    """

    alternative: Alternative = _BLUR
    areas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5)

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_alternative(self, self.alternative)
        check_shares(self, "areas", self.areas)

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
        edit = make_perturber(black_box, sample.images, self.alternative, generator)
        chosen = (best(places, area) for area in self.areas)
        edits = chain.from_iterable((edit(some), edit(~some)) for some in chosen)
        answers = probabilities(black_box.optimized_for(sample.images), sample.labels, edits)
        kept, dropped = answers[0::2], answers[1::2]
        return {
            "gap": (kept - dropped).mean(0),
            **{f"kept_{area:g}": value for area, value in zip(self.areas, kept, strict=True)},
            **{f"dropped_{area:g}": value for area, value in zip(self.areas, dropped, strict=True)},
        }
