"""ClassConfusion: is the mask about the class, or about whatever stands out?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Generator

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Labels, Mask, PerImage


@final
@dataclass(frozen=True, kw_only=True)
class ClassConfusion(Metric):
    """How alike are the masks of the label and of another class of the same picture? Lower is
    better.

    The masker is asked again about another class, and its two masks are compared: `area_ratio`, the
    other mask's mean divided by the label's (0: the masker finds nothing of a class that is not
    there; 1: as much; more: it is misled); `correlation`, Pearson's, of the two masks over the
    pixels; `overlap`, the sum of the smaller values divided by the sum of the larger ones, which
    for black and white masks is the intersection over union. A masker that ignores the class has 1
    in all three, and so have the centre box and the whole image. Maskers whose map is always
    stretched to [0, 1] have area ratios near 1 whatever they find, so read `correlation` with them.
    Says nothing about whether the label's own mask is right. NaN where a value is not defined: a
    mask is empty (ratio: the label's; overlap: both), or constant (correlation), or the model has
    one class.

    Args:
        other: `random`: any other class, all equally likely, drawn for each picture; nearly always
            one that is not in it. `runner-up`: the most probable of the others, which often shares
            parts with the label; costs a query.

    Raises:
        InputError: `other` is none of these.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> scores = ClassConfusion()(black_box, Sample(images, labels), torch.ones(1, 1, 16, 16), explain=black_box.evidence, generator=g)
        >>> sorted(scores)
        ['area_ratio', 'correlation', 'overlap']

    References:
        Dabkowski & Gal 2017, section 4.4, trains with labels of absent classes to this end.
    """

    other: Literal["random", "runner-up"] = "random"

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the argument."""
        if self.other not in ("random", "runner-up"):
            raise InputError(f"{self}: other is 'random' or 'runner-up'.")

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """The three, the first >= 0, the second in [-1, 1], the third in [0, 1]. One more
        explanation per image.
        """
        if black_box.num_classes == 1:
            return dict.fromkeys(
                ("area_ratio", "correlation", "overlap"), mask.new_full((len(mask),), float("nan"))
            )
        theirs = explain(sample.images, self._others(black_box, sample, generator)).to(mask.dtype)
        return {
            "area_ratio": _ratio(theirs.mean((1, 2, 3)), mask.mean((1, 2, 3))),
            "correlation": correlation(mask, theirs),
            "overlap": _ratio(
                torch.minimum(mask, theirs).sum((1, 2, 3)),
                torch.maximum(mask, theirs).sum((1, 2, 3)),
            ),
        }

    def _others(self, black_box: BlackBox, sample: Sample, generator: Generator) -> Labels:
        classes, labels = black_box.num_classes, sample.labels
        if self.other == "random":
            drawn = rng.uniform(sample.images, (1,), generator=generator, high=classes - 1).squeeze(
                1
            )
            # rounding may reach the end that is left out
            steps = drawn.long().clamp(0, classes - 2) + 1
            return (labels + steps) % classes
        return black_box(sample.images).scatter(1, labels[:, None], float("-inf")).argmax(1)


def correlation(one: Mask, other: Mask) -> PerImage:
    """Pearson's correlation over the pixels of each image, in [-1, 1]; NaN where a map is constant.

    Example:
        >>> correlation(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.7, 0.2]]]])).item()
        -1.0
    """
    flat = [maps.double().flatten(1) for maps in (one, other)]
    apart = [maps - maps.mean(1, keepdim=True) for maps in flat]
    constant = torch.stack([maps.amax(1) == maps.amin(1) for maps in flat]).any(0)
    product = (apart[0] * apart[1]).sum(1) / (apart[0].norm(dim=1) * apart[1].norm(dim=1))
    return torch.where(constant, float("nan"), product.clamp(-1, 1)).to(one.dtype)


def _ratio(above: PerImage, below: PerImage) -> PerImage:
    return torch.where(below > 0, above / below, float("nan"))
