"""randomised_box(): does the mask rest on what the classifier learned?"""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.sanity.intervals import Figure, is_below, word
from saliencykit.sanity.masks import OnProgress, masks_of, own_answers
from saliencykit.sanity.randomized_model import What, randomized
from saliencykit.sanity.similarity import overlap, similarity
from saliencykit.training.fit_masker import fit
from saliencykit.training.schedule import FitStep

_LOST = 0.3  # of the correlation, that masks of a random box must lose
_STEADY = 0.5  # correlation of two seeds' masks, below which they say too little
_FEWEST = 12  # pictures for trainings and comparison
_EVERY = 3  # of so many pictures one is compared, the others train


@final
@dataclass(frozen=True)
class ModelRandomization:
    """What `model_randomization` found.

    Attributes:
        same: Correlation with the masks of a second seed on the intact box.
        random: Correlation with the masks of the randomised box.
        difference: The first less the second, picture by picture.
        same_overlap: As `same`: intersection over union of the best fifth of the pixels.
        random_overlap: As `random`.
        retrained: Were two maskers trained for this, or was the same one asked about another box?
        what: `head`, `weights` or `given`.
        steps: Of each training; None where nothing was trained.
        gates: Did the trained masker of the second seed, and that of the random box, pass their
            gates?
        missing: Why pictures lack a mask, and how many.
        passed: See `rule`; None if that cannot be said.
    """

    same: Figure
    random: Figure
    difference: Figure
    same_overlap: Figure
    random_overlap: Figure
    retrained: bool
    what: str
    steps: int | None
    gates: tuple[bool, bool] | None
    missing: Mapping[str, int]
    passed: bool | None

    name: ClassVar[str] = "randomised-box"
    rule: ClassVar[str] = (
        f"masks correlate with those of a box of random answers by at least {_LOST} less than "
        f"with those of a second seed, which must be alike themselves ({_STEADY} or more)"
    )

    @property
    def line(self) -> str:
        """Verdict and figures in a line of text."""
        lost = f"; {sum(self.missing.values())} masks missing" if self.missing else ""
        how = f"retrained, {self.steps} steps" if self.retrained else "not retrained"
        return (
            f"{self.name}: {word(self.passed)}. Correlation with masks of a second seed "
            f"{self.same}, of a box with random {self.what} {self.random}, difference "
            f"{self.difference}; overlap of the best fifth {self.same_overlap.mean:.2f} and "
            f"{self.random_overlap.mean:.2f}; {how}, n={self.difference.n}{lost}"
        )


def model_randomization(
    model: object,
    masker: Masker | str,
    images: Images,
    labels: Labels | None = None,
    *,
    what: What = "head",
    random_box: object | None = None,
    training: Any = None,
    steps: int | None = None,
    fit_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_progress: OnProgress | None = None,
) -> ModelRandomization:
    """Compare masks with those of a box whose answers are random. Masks that stay the same show the
    picture, not the model.

    Protocol for a **trained masker** (a `RealTimeMasker`), whose network cannot change when a box
    is randomised under it: two new ones are trained by `fit` with one seed and the same pictures
    and options, one for the intact box and one for a randomised copy. The masker's masks are
    compared with both, on pictures that neither training saw: every third one, the others train.
    The random box's masker is asked about the class that its own box answers, so that it has
    something to show.

    Protocol for **any other masker**: nothing is trained. Its masks are compared with those that it
    finds for the same class with another seed, and on the randomised copy.

    Masks are compared by their correlation (`sanity.similarity`) and by the intersection over union
    of their best fifth of the pixels, picture by picture, with bootstrap 95 % intervals. **Passes**
    if the correlation falls by more than 0.3, with the whole interval; fails if the interval lies
    below 0.3. Unclear between, and where the masks of two seeds correlate by less than 0.5: steps,
    samples or pictures are too few then. Edge detectors, guided backpropagation and networks that
    segment whatever stands out fail; noise is unclear.

    With a random head the features are those that were learned, and which of them speaks for which
    class is random: the harder test. Guided backpropagation fails here, as in the paper below, and
    passes where all weights are random. Where pictures hold one thing on an empty ground any head
    looks at that thing, and good masks stay alike: randomise `weights` there.

    Args:
        model: As for `explain`. It is only read: the random weights are a copy's.
        masker: A Masker, a text, or a trained one's file.
        images: (N, C, H, W) as the model takes them, N >= 2, for a trained masker without
            `training` >= 12 and better some hundred.
        labels: (N,), the own classes. None: what the model answers.
        what: What is randomised in a copy, `head` or `weights`, see `randomising.randomized`.
        random_box: A model with other knowledge, instead of a randomised copy: one that learned
            shuffled labels, say.
        training: Pictures for `fit`, as it takes them; all of `images` are then compared.
        steps: Of each training, >= 1. None: as `fit` has it, minutes on a CPU.
        fit_options: Other options of `fit`: those that the masker was trained with. Its encoder's
            kind is known.
        seed: Of what is drawn. Trainings have the next one.
        batch_size: Pictures at once.
        on_progress: See `sanity.asking`; also called with the steps of trainings.

    Raises:
        InputError: Too few pictures, a model whose weights cannot be randomised, options that `fit`
            does not take.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> from saliencykit.testing.black_boxes import small_network
        >>> black_box = TorchBlackBox(small_network())
        >>> model_randomization(black_box, "center-box", torch.rand(4, 3, 16, 16)).passed
        False

    References:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", sections 3 and 4: model parameter
        and data randomisation. The bounds are ours.
    """
    black_box, asked = as_black_box(model), as_masker(masker)
    checks.images(images, "model_randomization")
    trained = asked.fit_options is not None
    fewest = _FEWEST if trained and training is None else 2
    if len(images) < fewest:
        raise InputError(
            f"randomised_box got {len(images)} pictures; it takes {fewest} or more, and some "
            "hundred to be sure."
        )
    if steps is not None and steps < 1:
        raise InputError(f"randomised_box(steps={steps}): steps of each training, >= 1.")
    own = own_answers(black_box, images) if labels is None else labels.cpu()
    checks.labels(own, len(images), black_box.num_classes, "model_randomization")
    random = (
        randomized(black_box, images, what, seed)
        if random_box is None
        else as_black_box(random_box)
    )
    second: Masker = asked
    third: Masker = asked
    theirs, gates, done = own, None, None
    if asked.fit_options is not None:
        compared = images if training is not None else images[::_EVERY]
        if training is None:
            training = images[torch.arange(len(images)) % _EVERY != 0]
            own = own[::_EVERY]
        images = compared
        options = {**asked.fit_options, "seed": seed + 1, "steps": steps} | dict(fit_options or {})
        first = _trained(black_box, training, options, "training for the intact box", on_progress)
        other = _trained(random, training, options, "training for the random box", on_progress)
        second, third, theirs = first, other, own_answers(random, images)
        gates = (
            bool(first.metadata["validation"]["passed"]),
            bool(other.metadata["validation"]["passed"]),
        )
        done = int(first.metadata["training"]["steps_done"])

    def masks(one: Masker, of: BlackBox, labels: Labels, seed: int, what: str) -> Any:
        return masks_of(
            one.for_black_box(of),
            of,
            images,
            labels,
            seed=seed,
            batch_size=batch_size,
            what=what,
            on_progress=on_progress,
        )

    mine = masks(asked, black_box, own, seed, "masks")
    again = masks(second, black_box, own, seed + 1, "masks of a second seed")
    elsewhere = masks(third, random, theirs, seed, "masks of the random box")
    same, lost = similarity(mine.values, again.values), similarity(mine.values, elsewhere.values)
    difference = Figure.of(same - lost, seed)
    steady = Figure.of(same, seed)
    falls = is_below(difference, _LOST)
    return ModelRandomization(
        same=steady,
        random=Figure.of(lost, seed),
        difference=difference,
        same_overlap=Figure.of(overlap(mine.values, again.values), seed),
        random_overlap=Figure.of(overlap(mine.values, elsewhere.values), seed),
        retrained=trained,
        what=what if random_box is None else "given",
        steps=done,
        gates=gates,
        missing=dict(Counter(mine.reasons) + Counter(again.reasons) + Counter(elsewhere.reasons)),
        passed=None if falls is None or not steady.mean >= _STEADY else not falls,
    )


def _trained(
    black_box: BlackBox,
    pictures: Any,
    options: Mapping[str, Any],
    what: str,
    on_progress: OnProgress | None,
) -> RealTimeMasker:
    def on_step(step: FitStep) -> None:
        if on_progress is not None:
            on_progress(what, step.number, step.of)

    with warnings.catch_warnings():
        # short trainings, and one with little to find: the gates are told in the result
        warnings.simplefilter("ignore")
        try:
            return fit(black_box, pictures, **({"on_step": on_step} | dict(options)))
        except TypeError as error:
            if "unexpected keyword" in str(error):
                raise InputError(f"fit_options: {error}.") from error
            raise
