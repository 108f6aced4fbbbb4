"""encoding_probe(): can the class be read off the mask's shape?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.sanity.intervals import Figure, word
from saliencykit.sanity.linear_probe import matched, pooled, predictions
from saliencykit.sanity.masks import OnProgress, masks_of, own_answers

_FOLDS = 5
_CONTROLS = 5  # random masks for each mask
_FEWEST = 20  # pictures, and those whose own class can be probed
_MARGIN = 0.05  # of reading beyond the control that nobody need worry about
_UNSURE = 0.2  # an interval that reaches beyond the allowed reading by so much says too little
_OUTLINES = (
    0.5  # of reading the own class beyond the control: more than most outlines of objects tell
)


@final
@dataclass(frozen=True)
class LeakageReading:
    """How often a linear probe reads a class right.

    Attributes:
        accuracy: From the masks.
        control: From random masks of the same values, so of the same area.
        difference: The first less the second, picture by picture.
        chance: Share of the most frequent class, what a probe that sees nothing gets.
        classes: Number of classes.
        area: Mean mask.
    """

    accuracy: Figure
    control: Figure
    difference: Figure
    chance: float
    classes: int
    area: float


@final
@dataclass(frozen=True)
class ClassLeakage:
    """What `class_leakage` found.

    Attributes:
        other: The class that was asked about, read from masks of pictures that do not show it.
        own: The pictures' own classes, read from their masks; None where too few pictures share a
            class.
        cells: Per side, that masks are pooled to.
        allowed: The reading beyond the control, of `other`, that counts as none.
        missing: Why pictures lack a mask, and how many.
        passed: See `rule`; None if the pictures are too few to say, or the own class is read so
            well that either the outlines of these objects give it away or the masker does.
    """

    other: LeakageReading
    own: LeakageReading | None
    cells: int
    allowed: float
    missing: Mapping[str, int]
    passed: bool | None

    name: ClassVar[str] = "encoding"
    rule: ClassVar[str] = (
        "of pictures that do not show the class that was asked about, the mask's shape does not "
        "give it away: a linear probe reads it hardly better than from random masks of the same "
        "values"
    )

    @property
    def line(self) -> str:
        """Verdict and figures in a line of text."""
        lost = f"; {sum(self.missing.values())} masks missing" if self.missing else ""
        own = (
            ""
            if self.own is None
            else f"; the picture's own class {self.own.accuracy} (random "
            f"{self.own.control.mean:.2f})"
        )
        return (
            f"{self.name}: {word(self.passed)}. Of a class that is not there the mask tells "
            f"{self.other.accuracy}, random masks of its values {self.other.control}, chance "
            f"{self.other.chance:.2f}, difference {self.other.difference}, "
            f"n={self.other.accuracy.n}{own}{lost}"
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
    on_progress: OnProgress | None = None,
) -> ClassLeakage:
    """Read the class from the mask alone. A masker that writes the label into its masks scores high
    and explains nothing.

    A trained masker can learn to cut marks into its masks that make the classifier answer whatever
    was asked; kept and dropped probabilities then look perfect. Protocol: the masks are pooled to
    `cells` x `cells` means. Multinomial logistic regression (standardised cells, weight decay 0.01)
    is trained on four fifths of the pictures and reads the rest, five times. It reads, first, the
    class that was *asked about* from masks of pictures that do not show it, drawn for each picture
    from `classes` classes (the most frequent answers, filled up at random); and, second, where 20
    pictures have an own class that five of them share, the *own* class from the mask for it. The
    control is the mean of five probes of smooth random masks with the same values as each mask, so
    also with its area. Accuracies, and their difference picture by picture, have bootstrap 95 %
    intervals.

    **Fails** if the first reading's difference lies above `allowed` with its whole interval: 0.05,
    and 1/(K-1) - 1/K for the hint that the own class is not among those asked about. Outlines of
    objects tell something of their class, so the second reading fails nobody; if its difference
    lies above 0.5 the verdict is unclear, and the masks want a look. It is unclear, too, if the
    interval of the first reaches 0.2 beyond `allowed`: take more pictures. Codes that no linear
    probe of this resolution reads go unseen, and so does what the mask's values alone tell (compare
    the control with chance).

    Args:
        model: As for `explain`, with three classes or more: of two, the absent one is told by the
            present one.
        masker: A Masker, a text, or a trained one's file.
        images: (N, C, H, W) as the model takes them, N >= 20, better some hundred.
        labels: (N,), the own classes. None: what the model answers.
        classes: Classes that are asked about, >= 3; no more than the model has.
        cells: Per side, >= 2. None: 8 for pictures under 56 pixels, else 14.
        seed: Of what is drawn.
        batch_size: Pictures at once.
        on_progress: See `sanity.asking`.

    Raises:
        InputError: Too few pictures, masks or classes.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
        >>> found = class_leakage(black_box, "center-box", images)
        >>> found.other.classes, found.cells
        (4, 8)

    References:
        Jethani et al. 2021, "Have We Learned to Explain?: How Interpretability Methods Can Learn to
        Encode Predictions in their Interpretations", section 3; Puli et al. 2024, "Explanations
        that reveal all through the definition of encoding". The probe and its bounds are ours.
    """
    black_box, asked = as_black_box(model), as_masker(masker)
    checks.images(images, "class_leakage")
    if len(images) < _FEWEST:
        raise InputError(
            f"encoding_probe got {len(images)} pictures; it takes {_FEWEST} or more, and some "
            "hundred to be sure."
        )
    own = own_answers(black_box, images) if labels is None else labels.cpu()
    if black_box.num_classes < 3 or classes < 3:
        raise InputError(
            f"encoding_probe takes three classes or more, the model has {black_box.num_classes} and "
            f"classes={classes}: of two, the absent one is told by the present one."
        )
    checks.labels(own, len(images), black_box.num_classes, "class_leakage")
    if cells is not None and cells < 2:
        raise InputError(f"encoding_probe(cells={cells}): cells per side, >= 2.")
    side = cells or (8 if min(images.shape[2:]) < 56 else 14)
    among = _chosen(own, black_box, min(classes, black_box.num_classes), seed)
    wrong = _absent(own, among, seed)
    theirs = masks_of(
        asked,
        black_box,
        images,
        wrong,
        seed=seed,
        batch_size=batch_size,
        what="absent classes",
        on_progress=on_progress,
    )
    mine = masks_of(
        asked,
        black_box,
        images,
        own,
        seed=seed,
        batch_size=batch_size,
        what="own classes",
        on_progress=on_progress,
    )
    count = int(theirs.known.sum())
    if count < _FEWEST:
        why = next(iter(theirs.reasons))
        raise InputError(
            f"encoding_probe got {count} masks of {len(images)} pictures, and takes {_FEWEST}: "
            f"{why}"
        )
    other = reading(theirs.values[theirs.known], wrong[theirs.known], cells=side, seed=seed)
    shared = mine.known & torch.isin(
        own, torch.tensor([c for c, n in Counter(own[mine.known].tolist()).items() if n >= _FOLDS])
    )
    probed = int(shared.sum()) >= _FEWEST and len(torch.unique(own[shared])) > 1
    present = reading(mine.values[shared], own[shared], cells=side, seed=seed) if probed else None
    allowed = _MARGIN + 1 / (len(among) - 1) - 1 / len(among)
    missing = dict(Counter(mine.reasons) + Counter(theirs.reasons))
    return ClassLeakage(other, present, side, allowed, missing, _verdict(other, present, allowed))


def reading(masks: Mask, classes: Labels, *, cells: int, seed: int = 0) -> LeakageReading:
    """Probe masks for the classes that they were made for.

    Args:
        masks: (N, 1, H, W), finite.
        classes: (N,).
        cells: Per side, that the masks are pooled to.
        seed: Of folds and random masks.
    """
    generator = Generator().manual_seed(seed)

    def right(some: Mask) -> Tensor:
        return (
            predictions(pooled(some, cells), classes, folds=_FOLDS, seed=seed) == classes
        ).double()

    found = right(masks)
    control = torch.stack(
        [right(matched(masks, generator=generator)) for _ in range(_CONTROLS)]
    ).mean(0)
    counts = torch.unique(classes, return_counts=True)[1]
    return LeakageReading(
        accuracy=Figure.of(found, seed),
        control=Figure.of(control, seed),
        difference=Figure.of(found - control, seed),
        chance=float(counts.max()) / len(classes),
        classes=len(counts),
        area=float(masks.mean()),
    )


def _chosen(own: Labels, black_box: BlackBox, count: int, seed: int) -> Labels:
    """The most frequent answers, filled up with other classes."""
    frequent = [label for label, _ in Counter(own.tolist()).most_common(count)]
    rest = torch.randperm(black_box.num_classes, generator=Generator().manual_seed(seed)).tolist()
    return torch.tensor(
        (frequent + [label for label in rest if label not in set(frequent)])[:count]
    )


def _absent(own: Labels, among: Labels, seed: int) -> Labels:
    """For each picture one of the classes that is not its own, all equally likely."""
    drawn = torch.rand(len(own), len(among), generator=Generator().manual_seed(seed))
    return among[drawn.masked_fill(own[:, None] == among, -1).argmax(1)]


def _verdict(other: LeakageReading, own: LeakageReading | None, allowed: float) -> bool | None:
    if other.difference.low > allowed:
        return False
    if other.difference.high > allowed + _UNSURE or (
        own is not None and own.difference.low > _OUTLINES
    ):
        return None
    return True
