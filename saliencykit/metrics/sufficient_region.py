"""SufficientArea and DestroyingArea: how many of the best pixels keep a decision, and how many must
go to lose it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import check_alternative, make_perturber, probabilities
from saliencykit.metrics.ranking import ranks

_BLUR = Blur()
_RelativeTo = Literal["whole", "value"]


@final
@dataclass(frozen=True, kw_only=True)
class SmallestSufficientRegion(Metric):
    """The size of a region of best pixels that alone keeps the decision: the map's smallest
    sufficient region (SSR).

    Kept alone, on the alternative, the best `area` of the pixels give the label at least the wanted
    confidence. Bisection finds an area where that is so and, `resolution` below it, is not. More
    pixels do not always mean more confidence: there may be smaller areas that suffice, and larger
    ones that do not, so it is the smallest only where the curve crosses the wanted confidence once.
    Lower is better. All pictures of the batch are asked at once, `2 + log2(1 / resolution)` queries
    each. Ties in the order are broken by distance from the middle (`saliencykit.metrics.ranking`).

    NaN where the whole picture has not the wanted confidence (only with `relative_to="value"`); 0
    where the alternative alone has it. Both depend on the picture, never on the map.

    Args:
        confidence: The wanted probability of the label, in (0, 1).
        relative_to: `whole`: as a share of the whole picture's probability; `value`: the
            probability itself.
        alternative: What stands where pixels are not shown; drawn once per picture.
        resolution: How precisely the area is found, a share of the picture in (0, 0.5].

    Raises:
        InputError: A number is out of range, or the alternative is not one.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> SmallestSufficientRegion()(black_box, sample, truth, explain=black_box.evidence, generator=g)["area"].item() <= truth.mean().item()
        True

    References:
        Dabkowski & Gal 2017, section 2, "smallest sufficient region".
    """

    confidence: float = 0.9
    relative_to: _RelativeTo = "whole"
    alternative: Alternative = _BLUR
    resolution: float = 1 / 256

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check(self, self.confidence, self.relative_to, self.alternative, self.resolution)

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`area`, a share of the picture in [0, 1]; and the label's `probability` where so much is
        kept.
        """
        shown, places, empty, full = _ordered(black_box, sample, mask, self.alternative, generator)
        wanted = self.confidence * (full if self.relative_to == "whole" else torch.ones_like(full))
        area, reached = _crossing(
            lambda counts: shown(places < counts),
            lambda p: p >= wanted,
            full,
            places,
            self.resolution,
        )
        at_once = empty >= wanted
        area, reached = (
            torch.where(at_once, torch.zeros_like(area), area),
            torch.where(at_once, empty, reached),
        )
        return _where(full >= wanted, area, reached)


@final
@dataclass(frozen=True, kw_only=True)
class SmallestDestroyingRegion(Metric):
    """The size of a region of best pixels without which the decision is lost: the map's smallest
    destroying region (SDR).

    With the best `area` of the pixels replaced by the alternative, at most the given confidence is
    left. Bisection finds an area where that is so and, `resolution` below it, is not. Removing more
    does not always mean less confidence: there may be smaller areas that destroy it, and larger
    ones that do not, so it is the smallest only where the curve crosses the confidence once. Lower
    is better. All pictures of the batch are asked at once, `2 + log2(1 / resolution)` queries each.
    Ties in the order are broken by distance from the middle (`saliencykit.metrics.ranking`).

    NaN where the whole picture has no more than that confidence (only with `relative_to="value"`),
    and where even the alternative alone has more. Both depend on the picture, never on the map.

    Args:
        confidence: The probability of the label at which the decision counts as lost, in (0, 1).
        relative_to: `whole`: as a share of the whole picture's probability; `value`: the
            probability itself.
        alternative: What stands where pixels are removed; drawn once per picture.
        resolution: How precisely the area is found, a share of the picture in (0, 0.5].

    Raises:
        InputError: A number is out of range, or the alternative is not one.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth, metric = black_box.evidence(sample.images, sample.labels), SmallestDestroyingRegion(confidence=0.5)
        >>> metric(black_box, sample, truth, explain=black_box.evidence, generator=g)["area"].item() <= truth.mean().item()
        True

    References:
        Dabkowski & Gal 2017, section 2, "smallest destroying region".
    """

    confidence: float = 0.1
    relative_to: _RelativeTo = "whole"
    alternative: Alternative = _BLUR
    resolution: float = 1 / 256

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check(self, self.confidence, self.relative_to, self.alternative, self.resolution)

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`area`, a share of the picture in (0, 1]; and the label's `probability` where so much is
        removed.
        """
        shown, places, empty, full = _ordered(black_box, sample, mask, self.alternative, generator)
        limit = self.confidence * (full if self.relative_to == "whole" else torch.ones_like(full))
        area, reached = _crossing(
            lambda counts: shown(places >= counts),
            lambda p: p <= limit,
            empty,
            places,
            self.resolution,
        )
        return _where((full > limit) & (empty <= limit), area, reached)


def _check(
    metric: Metric, confidence: float, relative_to: str, alternative: Alternative, resolution: float
) -> None:
    who = name_of(metric)
    check_alternative(metric, alternative)
    if not 0 < confidence < 1:
        raise InputError(f"{who}(confidence={confidence}): a confidence is in (0, 1), such as 0.5.")
    if relative_to not in ("whole", "value"):
        raise InputError(f"{who}(relative_to={relative_to!r}) takes 'whole' or 'value'.")
    if not 0 < resolution <= 0.5:
        raise InputError(
            f"{who}(resolution={resolution}): a resolution is a share of the picture in (0, 0.5], "
            "such as 1/256."
        )


def _ordered(
    black_box: BlackBox, sample: Sample, mask: Mask, alternative: Alternative, generator: Generator
) -> tuple[Callable[[Mask], PerImage], Tensor, PerImage, PerImage]:
    """The label's probability as a function of what is shown, (B, 1, H, W) bool; the pixels'
    places; it of nothing and of all.
    """
    edit = make_perturber(black_box, sample.images, alternative, generator)
    black_box, places = black_box.optimized_for(sample.images), ranks(mask)

    def shown(chosen: Mask) -> PerImage:
        return probabilities(black_box, sample.labels, [edit(chosen)])[0]

    nothing = torch.zeros_like(places, dtype=torch.bool)
    empty, full = probabilities(
        black_box, sample.labels, (edit(some) for some in (nothing, ~nothing))
    )
    return shown, places, empty, full


def _crossing(
    answer: Callable[[Tensor], Tensor],
    passes: Callable[[Tensor], Tensor],
    at_all: PerImage,
    places: Tensor,
    resolution: float,
) -> tuple[PerImage, PerImage]:
    """Bisection between no pixel, which does not pass, and all of them, which do: the area (B,) and
    its answer (B,).

    Args:
        answer: The label's probability (B,) at a number of pixels for each picture, (B, 1, 1, 1).
        passes: Is such a probability good enough? (B,) bool.
        at_all: The answer at all pixels.
        places: Of `ranks`.
        resolution: When to stop, a share of the pixels.
    """
    pixels = places.shape[2] * places.shape[3]
    low = places.new_zeros(len(places))
    high, reached = torch.full_like(low, pixels), at_all
    for _ in range(
        ceil(log2(1 / max(resolution, 1 / pixels)))
    ):  # as often for each picture, whatever else is in the batch
        middle = (low + high + 1) // 2
        found = answer(middle.view(-1, 1, 1, 1))
        good = passes(found)
        low, high = torch.where(good, low, middle), torch.where(good, middle, high)
        reached = torch.where(good, found, reached)
    return high.to(at_all.dtype) / pixels, reached


def _where(applies: Tensor, area: PerImage, reached: PerImage) -> dict[str, PerImage]:
    nothing = torch.full_like(area, float("nan"))
    return {
        "area": torch.where(applies, area, nothing),
        "probability": torch.where(applies, reached, nothing),
    }
