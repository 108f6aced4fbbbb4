"""wrong_label(): does the mask change when another class is asked about?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Generator

from saliencykit.core import checks
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, PerImage
from saliencykit.evaluation.bootstrap import weights
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.sanity.intervals import Figure, is_below, word
from saliencykit.sanity.masks import OnProgress, masks_of, own_answers
from saliencykit.sanity.similarity import similarity
from saliencykit.training.validation import other_labels

_BOUND = 0.5


@final
@dataclass(frozen=True)
class WrongLabel:
    """What `wrong_label` found.

    Attributes:
        area: Mean mask for the own class.
        other_area: Mean mask for other classes.
        ratio: The second divided by the first, a ratio of means, so that a picture with hardly any
            mask does not decide.
        correlation: Of both masks, picture by picture.
        ratios: Per picture; NaN where the own mask is empty or one is missing.
        correlations: Per picture; NaN where one is missing.
        missing: Why pictures lack a mask, and how many.
        passed: See `rule`; None if the pictures are too few to say.
    """

    area: Figure
    other_area: Figure
    ratio: Figure
    correlation: Figure
    ratios: tuple[float, ...]
    correlations: tuple[float, ...]
    missing: Mapping[str, int]
    passed: bool | None

    name: ClassVar[str] = "wrong-label"
    rule: ClassVar[str] = (
        f"another class's mask has less than {_BOUND} of the own one's area, or correlates with "
        f"it by less than {_BOUND}"
    )

    @property
    def line(self) -> str:
        """Verdict and figures in a line of text."""
        lost = f"; {sum(self.missing.values())} masks missing" if self.missing else ""
        return (
            f"{self.name}: {word(self.passed)}. Another class gets {self.ratio} of the area of "
            f"the own one ({self.other_area.mean:.3f} for {self.area.mean:.3f}), correlation "
            f"{self.correlation}, n={self.correlation.n}{lost}"
        )


def wrong_label(
    model: object,
    masker: Masker | str,
    images: Images,
    labels: Labels | None = None,
    *,
    others: int = 2,
    seed: int = 0,
    batch_size: int = 16,
    on_progress: OnProgress | None = None,
) -> WrongLabel:
    """Compare the mask for a picture's own class with those for other classes, which the picture
    does not show.

    Protocol: each picture's mask for its own class, and for `others` classes drawn from all the
        rest, all equally likely. Per
    picture the ratio of the means of both masks and their correlation over the pixels
    (`sanity.similarity`: 1 for two flat masks), averaged over the other classes; then means over the
    pictures with bootstrap 95 % intervals. **Passes** if the interval of the ratio or that of the
    correlation lies below 0.5: maskers that find nothing of a class that is not there differ in
    area, those whose maps are stretched to [0, 1] whatever they find differ in place. Fails if
    neither does, or if the own masks are empty; unclear between.

    For any masker. It is cheap, and catches maskers that show what stands out, or the picture's
    edges, whatever the question: the centre box, guided backpropagation, a trained network that
    learned to segment. Noise that is drawn anew for each class would pass; whether the mask is
    right is for the metrics to say.

    Args:
        model: As for `explain`.
        masker: A Masker, a text, or a trained one's file.
        images: (N, C, H, W) as the model takes them, N >= 2.
        labels: (N,), the own classes. None: what the model answers.
        others: Other classes per picture, >= 1.
        seed: Of what is drawn.
        batch_size: Pictures at once.
        on_progress: See `sanity.asking`.

    Raises:
        InputError: Fewer than two pictures, a model with one class, or no mask of any picture.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(0))
        >>> print(wrong_label(black_box, "center-box", images).line)
        wrong-label: FAIL. Another class gets 1.00 [1.00, 1.00] of the area of the own one ..., correlation 1.00 [1.00, 1.00], n=4

    References:
        Stalder et al. 2022, "What You See is What You Classify", section 4, class specificity;
        Dabkowski & Gal 2017, section 4.4, which trains with labels of absent classes to this end.
        The bounds are ours.
    """
    black_box, asked = as_black_box(model), as_masker(masker)
    checks.images(images, "wrong_label")
    if len(images) < 2 or others < 1:
        raise InputError(
            f"wrong_label got {len(images)} pictures and others={others}; it takes two pictures "
            "and one class or more."
        )
    own = own_answers(black_box, images) if labels is None else labels.cpu()
    if black_box.num_classes < 2:
        raise InputError("wrong_label asks about other classes, and the model has one.")
    checks.labels(own, len(images), black_box.num_classes, "wrong_label")
    mine = masks_of(
        asked,
        black_box,
        images,
        own,
        seed=seed,
        batch_size=batch_size,
        what="own class",
        on_progress=on_progress,
    )
    areas, close_to_rounding, missing = list[PerImage](), list[PerImage](), Counter(mine.reasons)
    generator = Generator().manual_seed(seed)
    for turn in range(others):
        what = "other class" if others == 1 else f"other class {turn + 1} of {others}"
        wrong = other_labels(own, black_box.num_classes, generator)
        theirs = masks_of(
            asked,
            black_box,
            images,
            wrong,
            seed=seed,
            batch_size=batch_size,
            what=what,
            on_progress=on_progress,
        )
        missing.update(theirs.reasons)
        areas.append(theirs.values.mean((1, 2, 3)))
        close_to_rounding.append(similarity(mine.values, theirs.values))
    area, other, correlation = (
        mine.values.mean((1, 2, 3)),
        torch.stack(areas).nanmean(0),
        torch.stack(close_to_rounding).nanmean(0),
    )
    ratios = torch.where(area > 0, other / area, float("nan"))
    ratio, found = _of_means(other, area, seed), Figure.of(correlation, seed)
    differs = (is_below(ratio, _BOUND), is_below(found, _BOUND))
    passed = True if True in differs else None if None in differs else False
    return WrongLabel(
        area=Figure.of(area, seed),
        other_area=Figure.of(other, seed),
        ratio=ratio,
        correlation=found,
        ratios=tuple(ratios.tolist()),
        correlations=tuple(correlation.tolist()),
        missing=dict(missing),
        passed=passed if ratio.n else False,
    )


def _of_means(above: PerImage, below: PerImage, seed: int) -> Figure:
    """The ratio of two means over the same pictures, which are drawn together; NaN if the lower one
    is 0.
    """
    known = ~(above + below).isnan()
    one, other = above[known].double().numpy(), below[known].double().numpy()
    if not other.sum() > 0:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    drawn = weights(len(one), resamples=2000, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanpercentile((drawn @ one) / (drawn @ other), [2.5, 97.5])
    return Figure(float(one.mean() / other.mean()), float(low), float(high), len(one))
