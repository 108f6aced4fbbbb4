"""ClassConfusion: does the mask depend on the class, or on whatever is salient?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Generator

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Labels, Mask, PerImage
from saliencykit.metrics.thresholding import missing


@final
@dataclass(frozen=True, kw_only=True)
class ClassConfusion(Metric):
    """The similarity of the masks for the label and for another class, on the same image. Lower is
    better.

    The masker explains another class too, and the two masks are compared: `area_ratio`, the other
    mask's mean divided by the label's (0: nothing is marked for a class that is absent; 1: just as
    much); `correlation`, Pearson's, over the pixels; `overlap`, the sum of the smaller values
    divided by the sum of the larger ones, which for binary masks is the intersection over union. A
    masker that ignores the class has 1 in all three, and so have the center box and the whole
    image. Maskers whose map is always stretched to [0, 1] have area ratios near 1 in any case, so
    read `correlation` with them. It does not say whether the label's own mask is right. NaN where a
    value is not defined: a mask is empty (ratio: the label's; overlap: both), or constant
    (correlation), or the model has one class.

    Args:
        other: `random`: any other class, all equally likely, drawn for each image; nearly always
            one that is not in it. `runner-up`: the most probable of the others, which often shares
            parts with the label; costs one query.

    Raises:
        InputError: `other` is neither.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> sample, mask = Sample(images, labels), torch.ones(1, 1, 16, 16)
        >>> metric = ClassConfusion()
        >>> sorted(metric(black_box, sample, mask, explain=black_box.evidence, generator=g))
        ['area_ratio', 'correlation', 'overlap']

    References:
        Dabkowski & Gal 2017, section 4.4, trains with labels of absent classes to this end.
    """

    other: Literal["random", "runner-up"] = "random"

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
        """`area_ratio` >= 0, `correlation` in [-1, 1] and `overlap` in [0, 1]. One more explanation
        per image.
        """
        if black_box.num_classes == 1:
            return dict.fromkeys(("area_ratio", "correlation", "overlap"), missing(mask))
        theirs = explain(sample.images, self._others(black_box, sample, generator)).to(mask.dtype)
        return {
            "area_ratio": _ratio(theirs.mean((1, 2, 3)), mask.mean((1, 2, 3))),
            "correlation": correlation(mask, theirs),
            "overlap": _ratio(
                mask.minimum(theirs).sum((1, 2, 3)), mask.maximum(theirs).sum((1, 2, 3))
            ),
        }

    def _others(self, black_box: BlackBox, sample: Sample, generator: Generator) -> Labels:
        classes, labels = black_box.num_classes, sample.labels
        if self.other == "random":
            drawn = rng.uniform(sample.images, (1,), generator=generator, high=classes - 1)[:, 0]
            # rounding may reach the excluded end
            return (labels + drawn.long().clamp(0, classes - 2) + 1) % classes
        return black_box(sample.images).scatter(1, labels[:, None], float("-inf")).argmax(1)


def correlation(one: Mask, other: Mask) -> PerImage:
    """Pearson's correlation over the pixels of each image, in [-1, 1]; NaN where a map is constant.

    Example:
        >>> correlation(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.7, 0.2]]]])).item()
        -1.0
    """
    flat = [maps.double().flatten(1) for maps in (one, other)]
    centered = [maps - maps.mean(1, keepdim=True) for maps in flat]
    constant = torch.stack([maps.amax(1) == maps.amin(1) for maps in flat]).any(0)
    product = (centered[0] * centered[1]).sum(1) / (
        centered[0].norm(dim=1) * centered[1].norm(dim=1)
    )
    return torch.where(constant, float("nan"), product.clamp(-1, 1)).to(one.dtype)


def _ratio(above: PerImage, below: PerImage) -> PerImage:
    return torch.where(below > 0, above / below, float("nan"))
