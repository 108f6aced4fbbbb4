"""AverageDrop: how much probability is lost, or gained, when the image is multiplied by the map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import make_perturber, probabilities

_ZERO = Constant(color="zero")


@final
@dataclass(frozen=True, kw_only=True)
class AverageDrop(Metric):
    """The fraction of the label's probability that is lost when the image is multiplied by the map.

    With `p` the label's probability on the image and `o` that on `image * map` (blended with the
    alternative), `drop = max(0, p - o) / p` (lower is better), `increase` is 1 where `o > p`, else
    0, and `gain = max(0, o - p) / (1 - p)`; all in [0, 1]. Their means over a data set are the
    published average drop, increase in confidence and average gain. A map of ones loses nothing, so
    large maps score well here: compare methods only together with `area`, the mean of the map. Two
    queries per image.

    Args:
        alternative: Replaces the pixels where the map is 0; drawn once per image. The default is
            what the model's normalization maps to 0: the product of the map and the normalized
            image, as it is usually computed.

    Raises:
        InputError: The alternative cannot be used.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> metric = AverageDrop(alternative=Constant(color=0.5))
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'drop': 0.0, 'increase': 0.0, 'gain': 0.0, 'area': 0.06}

    References:
        Chattopadhay et al. 2018, "Grad-CAM++", "Objective evaluation for object recognition", (i)
        average drop % and (ii) % increase in confidence. Gain: Zhang et al. 2024, "Opti-CAM",
        section on metrics.
    """

    alternative: Alternative = _ZERO

    higher_is_better: ClassVar[bool] = False

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`drop`, `increase`, `gain`, and the `area` of the map."""
        perturb = make_perturber(black_box, sample.images, self.alternative, generator)
        output = relative_output(black_box, sample.images, self.alternative, generator)
        shown = [sample.images, perturb(mask)]
        before, after = probabilities(black_box, sample.labels, shown, output)
        tiny = torch.finfo(before.dtype).tiny
        return {
            "drop": (before - after).clamp_min(0) / before.clamp_min(tiny),
            "increase": (after > before).to(before.dtype),
            "gain": (after - before).clamp_min(0) / (1 - before).clamp_min(tiny),
            "area": mask.mean((1, 2, 3)),
        }
