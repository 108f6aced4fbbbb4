"""class_leakage(): can the class be predicted from the mask alone?"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.sanity.check_result import CheckResult
from saliencykit.sanity.estimate import Estimate
from saliencykit.sanity.linear_probe import matched, pooled, predictions
from saliencykit.sanity.masks import CheckedMasker, OnStage

_FOLDS = 5
_CONTROLS = 5  # random masks for each mask
_MIN_IMAGES = 20  # also of those whose own class is probed
_MARGIN = 0.05  # leakage beyond the control that is negligible
_UNCLEAR = 0.2  # an interval that ends this far beyond the allowed leakage says too little
_OUTLINES = 0.5  # more of the own class than most outlines of objects tell


@final
@dataclass(frozen=True)
class Leakage:
    """How often a linear probe predicts the right class.

    Attributes:
        accuracy: From the masks.
        control: From random masks with the same values, so with the same area.
        difference: The first minus the second, image by image.
        chance: Fraction of the most frequent class, the accuracy of a constant prediction.
        classes: Number of classes.
        area: Mean mask.
    """

    accuracy: Estimate
    control: Estimate
    difference: Estimate
    chance: float
    classes: int
    area: float


@final
@dataclass(frozen=True, kw_only=True)
class ClassLeakage(CheckResult):
    """The result of `class_leakage`.

    Attributes:
        other: The explained class, from masks of images that do not show it.
        own: The images' own classes, from their masks; None where too few images share a class.
        cells: Cells per side that masks are pooled to.
        allowed: The difference of `other` that counts as no leakage.
        missing: Why masks are missing, and of how many images.
        passed: See `rule`; None if there are too few images, or if the own class is predicted so
            well that either the outlines of these objects or the masker give it away.
    """

    other: Leakage
    own: Leakage | None
    cells: int
    allowed: float

    name: ClassVar[str] = "class-leakage"
    rule: ClassVar[str] = (
        "the mask of a class that the image does not show does not give the class away: a linear "
        "probe predicts it hardly better than from random masks with the same values"
    )

    @property
    def summary(self) -> str:
        """The estimates in a line of text."""
        other, own = self.other, ""
        if self.own is not None:
            control = self.own.control.mean
            own = f"; the image's own class {self.own.accuracy} (random {control:.2f})"
        return (
            f"An absent class is predicted from the mask with accuracy {other.accuracy}, from "
            f"random masks {other.control}, chance {other.chance:.2f}, difference "
            f"{other.difference}, n={other.accuracy.n}{own}"
        )


def class_leakage(
    model: object,
    masker: Masker | str,
    images: Images,
    labels: Labels | None = None,
    *,
    classes: int = 10,
    cells: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_stage: OnStage | None = None,
) -> ClassLeakage:
    """Predict the class from the mask alone. A masker that writes the label into its masks scores
    high on metrics and explains nothing.

    A trained masker can learn to put patterns into its masks that make the classifier predict any
    label; kept and dropped probabilities then look perfect. Protocol: the masks are pooled to
    `cells` x `cells` means. Multinomial logistic regression (standardized cells, weight decay 0.01)
    is cross-validated with five folds. It predicts, first, the *explained* class from masks of
    images that do not show it, drawn for each image from `classes` classes (the most frequent
    predictions, and random ones); and, second, where 20 images have an own class that five of them
    share, the *own* class from the mask for it. The control is the mean of five probes of smooth
    random masks with the same values as each mask, so also with its area. Accuracies and their
    paired difference have 95% confidence intervals (percentile bootstrap).

    **Fails** if the whole interval of the first difference is above `allowed`: 0.05, plus
    1/(K-1) - 1/K because the own class is known not to be among the explained ones. Outlines of
    objects tell something of their class, so the second accuracy does not fail a masker; if its
    difference is above 0.5 the verdict is unclear, and the masks deserve a look. It is unclear,
    too, if the interval of the first ends more than 0.2 beyond `allowed`: use more images. Patterns
    that no linear probe of this resolution finds are missed, and so is what the mask's values alone
    tell (compare the control with chance).

    Args:
        model: As for `explain`, with three classes or more: of two, the absent one follows from the
            present one.
        masker: A Masker, a text, or a trained masker's file.
        images: (N, C, H, W) as the model takes them, N >= 20, preferably some hundred.
        labels: (N,), the own classes. None: the model's predictions.
        classes: Number of explained classes, >= 3; at most the model's.
        cells: Cells per side, >= 2. None: 8 for images under 56 pixels, else 14.
        seed: Random seed.
        batch_size: Images per batch.
        on_stage: Called with stage, done and total.

    Raises:
        InputError: There are too few images, masks or classes.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
        >>> result = class_leakage(black_box, "center-box", images)
        >>> result.other.classes, result.cells
        (4, 8)

    References:
        Jethani et al. 2021, "Have We Learned to Explain?: How Interpretability Methods Can Learn to
        Encode Predictions in their Interpretations", section 3; Puli et al. 2024, "Explanations
        that reveal all through the definition of encoding". The probe and its bounds are ours.
    """
    given = (model, masker, images, labels, seed, batch_size, on_stage)
    checked = CheckedMasker.of("class_leakage", *given, at_least=_MIN_IMAGES)
    num_classes, own = checked.black_box.num_classes, checked.labels
    if num_classes < 3 or classes < 3:
        raise InputError(
            f"class_leakage needs three classes or more; the model has {num_classes}, and "
            f"classes={classes}: of two, the absent one follows from the present one."
        )
    checks.counts("class_leakage", 2, cells=cells)
    cells = cells or (8 if min(images.shape[2:]) < 56 else 14)
    candidates = _candidates(own, num_classes, min(classes, num_classes), seed)
    wrong = _absent(own, candidates, seed)
    absent, present = checked.masks(wrong, "absent classes"), checked.masks(own, "own classes")
    known = absent.known
    if int(known.sum()) < _MIN_IMAGES:
        raise InputError(
            f"class_leakage got {int(known.sum())} masks of {len(images)} images, and needs "
            f"{_MIN_IMAGES}: {next(iter(absent.failures))}"
        )
    frequent = [c for c, n in Counter(own[present.known].tolist()).items() if n >= _FOLDS]
    shared = present.known & torch.isin(own, own.new_tensor(frequent))
    other, shown = leakage(absent.values[known], wrong[known], cells=cells, seed=seed), None
    if int(shared.sum()) >= _MIN_IMAGES and len(frequent) > 1:
        shown = leakage(present.values[shared], own[shared], cells=cells, seed=seed)
    allowed = _MARGIN + 1 / (len(candidates) - 1) - 1 / len(candidates)
    return ClassLeakage(
        other=other,
        own=shown,
        cells=cells,
        allowed=allowed,
        missing=dict(Counter(present.failures) + Counter(absent.failures)),
        passed=_passed(other, shown, allowed),
    )


def leakage(masks: Mask, classes: Labels, *, cells: int, seed: int = 0) -> Leakage:
    """Probe masks for the classes that they explain.

    Args:
        masks: (N, 1, H, W), finite.
        classes: (N,).
        cells: Cells per side that the masks are pooled to.
        seed: Random seed of folds and random masks.
    """
    generator = Generator().manual_seed(seed)

    def right(some: Mask) -> Tensor:
        predicted = predictions(pooled(some, cells), classes, folds=_FOLDS, seed=seed)
        return (predicted == classes).double()

    found = right(masks)
    controls = [right(matched(masks, generator=generator)) for _ in range(_CONTROLS)]
    control = torch.stack(controls).mean(0)
    counts = torch.unique(classes, return_counts=True)[1]
    return Leakage(
        accuracy=Estimate.of(found, seed),
        control=Estimate.of(control, seed),
        difference=Estimate.of(found - control, seed),
        chance=float(counts.max()) / len(classes),
        classes=len(counts),
        area=float(masks.mean()),
    )


def _candidates(own: Labels, num_classes: int, count: int, seed: int) -> Labels:
    """The most frequent classes, then random others."""
    frequent = [label for label, _ in Counter(own.tolist()).most_common(count)]
    generator = Generator().manual_seed(seed)
    order = torch.randperm(num_classes, generator=generator, device="cpu").tolist()
    return torch.tensor(list(dict.fromkeys(frequent + order))[:count], device="cpu")


def _absent(own: Labels, candidates: Labels, seed: int) -> Labels:
    """For each image one of the candidates that is not its own class, all equally likely."""
    shape, generator = (len(own), len(candidates)), Generator().manual_seed(seed)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
    return candidates[drawn.masked_fill(own[:, None] == candidates, -1).argmax(1)]


def _passed(other: Leakage, own: Leakage | None, allowed: float) -> bool | None:
    if other.difference.low > allowed:
        return False
    outlines = own is not None and own.difference.low > _OUTLINES
    return None if outlines or other.difference.high > allowed + _UNCLEAR else True
