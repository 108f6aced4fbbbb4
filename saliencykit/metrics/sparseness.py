"""Sparseness: the Gini index of a map."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Sparseness(Metric):
    """The Gini index of the map's values: from 0 for a constant map towards 1 for a single pixel.

    With the n values in ascending order, `sum((2 i - n - 1) value_i) / (n * sum(value_i))`. It does
    not say whether the map is right: the classifier is not queried. NaN for a map of zeros.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> scores = Sparseness()(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> scores["Sparseness"].item()
        0.9375

    References:
        Chalasani et al. 2020, "Concise Explanations of Neural Networks using Adversarial Training",
        section 4, the Gini index.
    """

    higher_is_better: ClassVar[bool] = True

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage:
        """The Gini index; no queries."""
        values = mask.flatten(1).sort(1).values
        n = values.shape[1]
        weights = 2 * torch.arange(1, n + 1, dtype=values.dtype, device=values.device) - n - 1
        return (values * weights).sum(1) / (n * values.sum(1))
