"""SaliencyScore: the saliency metric of Dabkowski & Gal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import numbers
from saliencykit.core.geometry import enlarge_boxes, inside_boxes, tight_boxes
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.output import log_probability, margin
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Mask, PerImage
from saliencykit.metrics.perturbed_queries import make_perturber

_BLUR = Blur()


@final
@dataclass(frozen=True, kw_only=True)
class SaliencyScore(Metric):
    """The saliency metric: the log area of the crop around the mask minus the log probability of
    the label in it.

    `s = log(max(a, floor)) - log(p)`: `a` is the area of the mask's bounding box, as a fraction of
    the image, `p` the probability of the label when that crop is resized to the classifier's input,
    its aspect ratio ignored. Lower is better: 0 for the whole of an image of which the classifier
    is certain, `log(floor)` at best. The classifier sees nothing artificial, but the mask's shape
    inside the box does not count, and on average half of the gain of any method is area: compare
    with the `center-box` and `whole-image` maskers, and look at the median, because a few images
    that the classifier gets wrong dominate the mean.

    Args:
        threshold: Pixels whose mask is at least this are in the box. With `relative_to="value"` in
            (0, 1].
        relative_to: `value`: the threshold refers to the mask itself; `mean`: to the mask divided
            by its mean, so that 1 is the mean, > 0. Where no pixel reaches it (an empty mask) the
            box is the whole image.
        floor: Boxes smaller than this fraction of the image count as this, in (0, 1]; the paper's
            0.05 keeps tiny crops from dominating.
        alternative: None: the box is cropped and resized, as in the paper. An alternative: the box
            keeps its place and size, and everything outside is replaced; see
            `saliency_score_in_place`.

    Raises:
        InputError: A number is out of range, or the alternative cannot be used.

    Example:
        >>> import torch
        >>> from saliencykit.core import Sample
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> sample, mask = Sample(*black_box.examples(1, generator=g)), torch.ones(1, 1, 16, 16)
        >>> scores = SaliencyScore()(black_box, sample, mask, explain=lambda *_: mask, generator=g)
        >>> {name: round(value.item(), 2) for name, value in scores.items()}
        {'score': 0.0, 'area': 1.0, 'crop_accuracy': 1.0}

    References:
        Dabkowski & Gal 2017, section 5.2. Thresholding at the mean: Phang et al. 2020,
        "Investigating and Simplifying Masking-based Saliency Methods" (theirs also keeps only the
        largest component; the paper does not, and neither does this).
    """

    threshold: Annotated[float, "(0, inf]"] = 0.5
    relative_to: Literal["value", "mean"] = "value"
    floor: Annotated[float, "(0, 1]"] = 0.05
    alternative: Alternative | None = None

    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.relative_to == "value":
            numbers("SaliencyScore", "(0, 1]", threshold=self.threshold)

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`score`; `area` of the box, a fraction in (0, 1]; and `crop_accuracy`, 1 where the top
        class of the crop is the label, else 0. One query per image.
        """
        level = mask.mean((1, 2, 3), keepdim=True) if self.relative_to == "mean" else 1.0
        boxes = tight_boxes(mask >= self.threshold * level)
        if self.alternative is None:
            shown = enlarge_boxes(sample.images, boxes)
        else:
            perturb = make_perturber(black_box, sample.images, self.alternative, generator)
            shown = perturb(inside_boxes(boxes, mask.shape[2:]))
        logits = black_box(shown)
        output = relative_output(black_box, sample.images, self.alternative, generator)
        width, height = (boxes[:, 2:] - boxes[:, :2]).to(logits.dtype).unbind(1)
        area = width * height / (mask.shape[2] * mask.shape[3])
        return {
            "score": area.clamp_min(self.floor).log()
            - log_probability(logits, sample.labels, output),
            "area": area,
            "crop_accuracy": (margin(logits, sample.labels, output) <= 0).to(logits.dtype),
        }


def saliency_score_in_place(
    *,
    threshold: float = 0.5,
    relative_to: Literal["value", "mean"] = "value",
    floor: float = 0.05,
    alternative: Alternative = _BLUR,
) -> SaliencyScore:
    """The saliency metric without resizing: everything outside the box is replaced by the
    alternative.

    The crop changes scale and aspect ratio, to which networks are sensitive; here they are kept, at
    the price of something artificial around the box.

    Args:
        threshold: See `SaliencyScore`.
        relative_to: See `SaliencyScore`.
        floor: See `SaliencyScore`.
        alternative: Replaces the pixels outside the box; drawn once per image.

    Example:
        >>> saliency_score_in_place(threshold=0.3).alternative
        Blur(sigma=0.045)

    References:
        Dabkowski & Gal 2017, section 5.2, with its crop replaced by the perturbation of section 3.
    """
    return SaliencyScore(
        threshold=threshold, relative_to=relative_to, floor=floor, alternative=alternative
    )
