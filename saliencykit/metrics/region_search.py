"""RegionSearch: the smallest region that keeps a decision, or whose removal loses it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, log2
from typing import Annotated, Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import enlarge_boxes, inside_boxes, tight_boxes
from saliencykit.core.output import Meaning, RelativeScores, probability
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Labels, Logits, PerImage
from saliencykit.metrics.perturbed_queries import make_perturber, query_batched

RegionForm: TypeAlias = Literal["mask", "crop"]
"""A region as it is, or its tightest bounding box."""


@final
@dataclass(frozen=True)
class FoundRegions:
    """What a search found for each image.

    Attributes:
        inside: (B, 1, H, W) bool; nothing where no region meets the condition.
        area: Fraction of the pixels in it, (B,); NaN where none does.
        probability: Of the label, as `core.output` reads it, (B,); NaN where none does.
        logits: The black box's answer for the region, (B, K); NaN where none does.
    """

    inside: Tensor
    area: PerImage
    probability: PerImage
    logits: Logits


@final
@dataclass(frozen=True)
class RegionSearch:
    """Bisects the number of best pixels between none and all, for all images of a batch together.

    The region found meets the condition, and the one that is `resolution` smaller does not. More
    pixels do not always mean a higher probability: of the regions that were tried it is the
    smallest that meets the condition, and there may be smaller ones between them.

    Args:
        keeps: Are the best pixels shown alone, or removed?
        limit: The required probability of the label, at least this where pixels are kept, at most
            this where they are removed; in (0, 1).
        relative_to: `whole`: a fraction of the whole image's probability, or for scores of the way
            from the fully replaced to the whole image; `value`: the probability.
        form: `mask`: the region itself. `crop`: its tightest bounding box, which is cropped and
            enlarged to be kept, as in the paper's metric, or removed as a whole.
        resolution: Of the area, a fraction of the image in (0, 0.5]; for `crop` of the region in
            the box.

    Raises:
        InputError: An argument is out of range.

    References:
        Dabkowski & Gal 2017, section 2, SSR and SDR, and section 5.2 for the crop.
    """

    keeps: bool
    limit: Annotated[float, "(0, 1)"]
    relative_to: Literal["whole", "value"] = "whole"
    form: RegionForm = "mask"
    resolution: Annotated[float, "(0, 0.5]"] = 1 / 256

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_fields(self)

    def queries(self, pixels: int, *, scores: bool = False) -> int:
        """How many queries each image takes.

        Args:
            pixels: Of an image.
            scores: Is the output a score, which is read relative to two more queries?
        """
        return 2 + self._steps(pixels) + 2 * scores

    def _steps(self, pixels: int) -> int:
        return ceil(log2(1 / max(self.resolution, 1 / pixels)))

    def __call__(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        places: Tensor,
        *,
        alternative: Alternative,
        generator: Generator,
    ) -> FoundRegions:
        """The smallest region of each image.

        Args:
            black_box: Is queried.
            images: (B, C, H, W) on its device.
            labels: (B,) int64.
            places: Of the pixels, (B, 1, H, W), 0 for the best; see `ranks`.
            alternative: Replaces pixels; drawn once per image.
            generator: It is drawn from it.
        """
        pixels = places[0].numel()
        perturb = make_perturber(black_box, images, alternative, generator)
        edited = partial(self._edited, images, perturb)
        output = relative_output(black_box, images, alternative, generator)
        low = places.new_zeros(len(places))
        high = torch.full_like(low, pixels)

        def inside(count: Tensor) -> Tensor:
            best = places < count[:, None, None, None]
            if self.form == "mask":
                return best
            boxed = inside_boxes(tight_boxes(best), best.shape[2:])
            return boxed & (count > 0)[:, None, None, None]

        def at(*counts: Tensor) -> list[tuple[Logits, PerImage]]:
            logits = query_batched(black_box, (edited(inside(count)) for count in counts))
            return [(each, self._value(each, labels, output)) for each in logits]

        (none, at_none), (reached, at_all) = at(low, high)
        whole = at_all if self.keeps else at_none
        limit = self.limit * (whole if self.relative_to == "whole" else torch.ones_like(whole))

        def passes(value: PerImage) -> Tensor:
            return value >= limit if self.keeps else value <= limit

        # the same number of steps for every image, whatever else is in the batch
        for _ in range(self._steps(pixels)):
            middle = (low + high + 1) // 2
            ((logits, value),) = at(middle)
            good = passes(value)
            low, high = torch.where(good, low, middle), torch.where(good, middle, high)
            reached = torch.where(good[:, None], logits, reached)
        applies, at_once = passes(at_all), passes(at_none)
        if self.keeps:  # the alternative alone may be enough; a crop shows none of it
            at_once = at_once & (self.form == "mask")
            high = torch.where(at_once, 0, high)
            reached = torch.where(at_once[:, None], none, reached)
        else:
            applies = applies & ~at_once
        found = inside(high) & applies[:, None, None, None]
        area = found.to(at_all.dtype).mean((1, 2, 3))
        p = probability(reached, labels, output)
        area, p = (torch.where(applies, each, float("nan")) for each in (area, p))
        return FoundRegions(found, area, p, torch.where(applies[:, None], reached, float("nan")))

    def _value(self, logits: Logits, labels: Labels, output: Meaning) -> PerImage:
        """What the limit is compared with."""
        if self.relative_to == "whole" and isinstance(output, RelativeScores):
            share = output.logits(logits) / 4 + 0.5
            return share.gather(1, labels[:, None]).squeeze(1)
        return probability(logits, labels, output)

    def _edited(
        self, images: Images, perturb: Callable[[Tensor], Images], inside: Tensor
    ) -> Images:
        """From the pixels of a region to the image that is queried."""
        if self.keeps and self.form == "crop":
            return enlarge_boxes(images, tight_boxes(inside))
        return perturb(inside if self.keeps else ~inside)
