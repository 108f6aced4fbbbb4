"""Complexity: the entropy of a map."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Complexity(Metric):
    """The entropy of the normalized map, in nats: from 0 for a single pixel to the log of the
    number of pixels for a constant map.

    A map that people can grasp is concentrated. It does not say whether the map is right: the
    classifier is not queried. NaN for a map of zeros, which cannot be normalized.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample, mask = Sample(*black_box.examples(1, generator=g)), torch.ones(1, 1, 16, 16)
        >>> scores = Complexity()(black_box, sample, mask, explain=black_box.evidence, generator=g)
        >>> round(scores["Complexity"].exp().item())
        256

    References:
        Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", section 3,
        complexity.
    """

    higher_is_better: ClassVar[bool] = False

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage:
        """The entropy; no queries."""
        values = mask.flatten(1)
        entropy: PerImage = torch.special.entr(values / values.sum(1, keepdim=True)).sum(1)
        return entropy
