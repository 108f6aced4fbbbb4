"""A metric: a score of masks."""

from dataclasses import dataclass
from typing import final

from torch import Generator

from saliencykit import Alternative, BlackBox, Metric, Sample
from saliencykit.alternatives import Constant
from saliencykit.core import Explain, Mask, PerImage, probability

_GRAY = Constant()


@final
@dataclass(frozen=True, kw_only=True)
class Kept(Metric):
    """The probability of the class with only the mask visible, divided by that of the whole image;
    1 if nothing is lost.

    Args:
        alternative: What replaces the pixels outside the mask.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> sample, mask = Sample(*black_box.examples(2, generator=g)), torch.ones(2, 1, 16, 16)
        >>> scores = Kept()(black_box, sample, mask, explain=black_box.evidence, generator=g)
        >>> scores["Kept"].tolist()
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
        """Two queries per image."""
        kept = self.alternative.for_black_box(black_box).edit(sample.images, mask, generator)
        whole = probability(black_box(sample.images), sample.labels, black_box.output)
        return probability(black_box(kept), sample.labels, black_box.output) / whole.clamp_min(1e-9)
