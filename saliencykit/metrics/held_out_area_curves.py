"""UnseenAreaCurves: kept and dropped at equal areas, under fills that no mask was made for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.area_curves import AreaCurves
from saliencykit.metrics.held_out_alternatives import RoadImputation, ShuffledBlocks
from saliencykit.metrics.perturbed_queries import check_shares

FILLS: tuple[Alternative, ...] = (RoadImputation(), ShuffledBlocks())


@final
@dataclass(frozen=True, kw_only=True)
class HeldOutAreaCurves(Metric):
    """`area-curves`, the mean over two fills that nothing in this package trains, tunes or
    optimises masks with.

    A mask that was optimised against a fill can exploit that fill; under these two it cannot. One
    is ROAD's linear imputation, the hole painted over from its edge; the other is the picture's own
    blocks of 32 px in a random order, colours and textures at wrong places. What a mask keeps and
    drops here is the figure to compare trained and optimised masks by. Four queries per area and
    image.

    Args:
        areas: Shares of the picture in (0, 1), each larger than the one before.

    Raises:
        InputError: The areas are none.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> scores = HeldOutAreaCurves(areas=(0.1,))(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> sorted(scores)
        ['dropped_0.1', 'gap', 'kept_0.1']

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
        section 5, for the imputation; Dabkowski & Gal 2017, section 3, for why alternatives leave
        traces.
    """

    areas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5)

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
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
        """As `area-curves`: `gap`, `kept_0.05` and so on, higher is better; `dropped_0.05` and so
        on, lower is better.
        """
        curves = [
            AreaCurves(alternative=fill, areas=self.areas).score(
                black_box, sample, mask, explain=explain, generator=generator
            )
            for fill in FILLS
        ]
        return {
            name: sum((curve[name] for curve in curves[1:]), curves[0][name]) / len(curves)
            for name in curves[0]
        }
