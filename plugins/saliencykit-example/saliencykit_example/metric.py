"""A metric: judges masks."""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit import Alternative, BlackBox, Metric, Sample
from saliencykit.alternatives.constant import Constant
from saliencykit.core.class_scores import probability
from saliencykit.core.metric import Explain
from saliencykit.core.types import Mask, PerImage

_GRAY = Constant()


@final
@dataclass(frozen=True, kw_only=True)
class Kept(Metric):
    """The class's probability with only the mask kept, over that of the whole picture; 1 where
    nothing is lost.

    Args:
        alternative: What stands where the mask is 0.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> everything = torch.ones(2, 1, 16, 16)
        >>> Kept()(black_box, Sample(images, labels), everything, explain=black_box.evidence, generator=g)["Kept"].tolist()
        [1.0, 1.0]
    """

    alternative: Alternative = _GRAY

    higher_is_better = True

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage:
        """Two evaluations per picture."""
        kept = self.alternative.for_black_box(black_box).edit(sample.images, mask, generator)
        whole = probability(black_box(sample.images), sample.labels)
        return probability(black_box(kept), sample.labels) / whole.clamp_min(1e-9)
