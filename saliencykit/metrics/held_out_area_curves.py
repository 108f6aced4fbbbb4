"""HeldOutAreaCurves: area curves under alternatives that no mask was made with."""

from dataclasses import dataclass
from typing import final

from saliencykit.core.alternative import Alternative
from saliencykit.metrics.area_curves import CurvesAtAreas
from saliencykit.metrics.held_out_alternatives import RoadImputation, ShuffledBlocks

HELD_OUT: tuple[Alternative, ...] = (RoadImputation(), ShuffledBlocks())


@final
@dataclass(frozen=True, kw_only=True)
class HeldOutAreaCurves(CurvesAtAreas):
    """`area-curves`, averaged over two held-out alternatives: nothing in this package trains, tunes
    or optimizes masks with them.

    A mask that was optimized against an alternative can exploit it; these two it cannot. One is
    ROAD's linear imputation, which paints a hole over from its edge; the other shuffles blocks of
    32 px of the image itself, so that colors and textures are in the wrong places. Use it to
    compare trained and optimized masks. Four queries per area and image.

    Args:
        areas: Fractions of the image in (0, 1), in ascending order.

    Raises:
        InputError: `areas` cannot be used.

    Example:
        >>> import torch
        >>> from saliencykit import Sample
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = HeldOutAreaCurves(areas=(0.1,))
        >>> sorted(metric(black_box, sample, truth, explain=black_box.evidence, generator=g))
        ['dropped_0.1', 'gap', 'kept_0.1']

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
        section 5, for the imputation; Dabkowski & Gal 2017, section 3, for why alternatives leave
        traces.
    """

    def _alternatives(self) -> tuple[Alternative, ...]:
        return HELD_OUT
