"""model_randomization(): does the mask depend on what the classifier learned?"""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch

from saliencykit.core import checks
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.sanity.check_result import CheckResult
from saliencykit.sanity.estimate import Estimate
from saliencykit.sanity.masks import CheckedMasker, OnStage, predicted_labels
from saliencykit.sanity.randomized_model import Randomize, randomized
from saliencykit.sanity.similarity import overlap, similarity
from saliencykit.training.fit_masker import fit
from saliencykit.training.schedule import FitStep

_MIN_DROP = 0.3  # of the correlation, for masks of a randomized model
_MIN_SAME = 0.5  # correlation of two seeds' masks, below which they say too little
_MIN_IMAGES = 12  # for trainings and comparison
_EVERY = 3  # every third image is compared, the others train


@final
@dataclass(frozen=True, kw_only=True)
class ModelRandomization(CheckResult):
    """The result of `model_randomization`.

    Attributes:
        same: Correlation with the masks of a second seed on the intact model.
        random: Correlation with the masks on the randomized model.
        difference: The first minus the second, image by image.
        same_overlap: As `same`: intersection over union of the best fifth of the pixels.
        random_overlap: As `random`.
        retrained: Were two maskers trained for this, or was the same one run on both models?
        randomize: `head`, `weights` or `given`.
        steps: Steps of each training; None where nothing was trained.
        validated: Did the trained maskers of the second seed, and of the randomized model, pass
            their held-out validation?
        missing: Why masks are missing, and of how many images.
        passed: See `rule`; None if it is unclear.
    """

    same: Estimate
    random: Estimate
    difference: Estimate
    same_overlap: Estimate
    random_overlap: Estimate
    retrained: bool
    randomize: str
    steps: int | None
    validated: tuple[bool, bool] | None

    name: ClassVar[str] = "model-randomization"
    rule: ClassVar[str] = (
        f"masks correlate with those of a randomized model by at least {_MIN_DROP} less than with "
        f"those of a second seed, which must be similar themselves ({_MIN_SAME} or more)"
    )

    @property
    def summary(self) -> str:
        """The estimates in a line of text."""
        how = f"retrained, {self.steps} steps" if self.retrained else "not retrained"
        return (
            f"Correlation with masks of a second seed {self.same}, of a model with random "
            f"{self.randomize} {self.random}, difference {self.difference}; overlap of the best "
            f"fifth {self.same_overlap.mean:.2f} and {self.random_overlap.mean:.2f}; {how}, "
            f"n={self.difference.n}"
        )


def model_randomization(
    model: object,
    masker: Masker | str,
    images: Images,
    labels: Labels | None = None,
    *,
    randomize: Randomize = "head",
    random_model: object | None = None,
    training_data: Any = None,
    steps: int | None = None,
    fit_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_stage: OnStage | None = None,
) -> ModelRandomization:
    """Compare masks with those of a randomized model. Masks that stay the same show the image, not
    the model.

    Protocol for a **trained masker** (a `RealTimeMasker`), whose network does not change when its
    model is randomized: two new ones are trained by `fit` with one seed and the same images and
    options, one for the intact model and one for a randomized copy. The masker's masks are compared
    with both, on images that neither training saw: every third one; the others train. The masker of
    the randomized model explains the class that its own model predicts, so that it has something to
    show.

    Protocol for **any other masker**: nothing is trained. Its masks are compared with its masks for
    the same class with another seed, and on the randomized copy.

    Masks are compared by their correlation (`similarity`) and by the intersection over union of
    their best fifth of the pixels, image by image, with 95% confidence intervals (percentile
    bootstrap). **Passes** if the correlation drops by more than 0.3, with the whole interval; fails
    if the interval is below 0.3. Otherwise it is unclear, as it is where the masks of two seeds
    correlate by less than 0.5: then steps, samples or images are too few. Edge detectors, guided
    backpropagation and networks that segment whatever is salient fail; noise is unclear.

    With a random head the features are the learned ones, and which of them supports which class is
    random: the harder test. Guided backpropagation fails here, as in the paper below, and passes
    where all weights are random. Where images show one thing on an empty background any head looks
    at that thing, and good masks stay similar: use `randomize="weights"` there.

    Args:
        model: As for `explain`. It is only read: a copy is randomized.
        masker: A Masker, a text, or a trained masker's file.
        images: (N, C, H, W) as the model takes them, N >= 2; for a trained masker without
            `training_data` >= 12, and preferably some hundred.
        labels: (N,), the own classes. None: the model's predictions.
        randomize: What is randomized in a copy, `head` or `weights`, see `randomized`.
        random_model: Another model, instead of a randomized copy: one that learned shuffled labels,
            say.
        training_data: Images for `fit`; all of `images` are then compared.
        steps: Steps of each training, >= 1. None: as `fit` has it, minutes on a CPU.
        fit_options: Other options of `fit`: those that the masker was trained with. Its encoder is
            known.
        seed: Random seed. Trainings have the next one.
        batch_size: Images per batch.
        on_stage: Called with stage, done and total; also with the steps of trainings.

    Raises:
        InputError: There are too few images, the model cannot be randomized, or `fit` does not have
            one of the options.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box = TorchBlackBox(small_network())
        >>> model_randomization(black_box, "center-box", torch.rand(4, 3, 16, 16)).passed
        False

    References:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", sections 3 and 4: model parameter
        and data randomization. The bounds are ours.
    """
    checks.counts("model_randomization", steps=steps)
    trained = as_masker(masker).fit_options
    least = 2 if trained is None or training_data is not None else _MIN_IMAGES
    given = (model, masker, images, labels, seed, batch_size, on_stage)
    intact = CheckedMasker.of("model_randomization", *given, at_least=least)
    other = (
        randomized(intact.black_box, intact.images, randomize, seed)
        if random_model is None
        else as_black_box(random_model)
    )
    if trained is not None and training_data is None:
        training_data = images[torch.arange(len(images), device="cpu") % _EVERY != 0]
        intact = replace(intact, images=images[::_EVERY], labels=intact.labels[::_EVERY])
    second, random = replace(intact, seed=seed + 1), replace(intact, black_box=other)
    done, validated = None, None
    if trained is not None:
        options = {**trained, "seed": seed + 1, "steps": steps} | dict(fit_options or {})
        own = _train(second, training_data, options, "training for the model")
        new = _train(random, training_data, options, "training for the random model")
        second = replace(second, masker=own)
        random = replace(random, masker=new, labels=predicted_labels(other, random.images))
        validated = own.metadata["validation"]["passed"], new.metadata["validation"]["passed"]
        done = int(own.metadata["training"]["steps_done"])
    masks = intact.masks(intact.labels, "masks")
    again = second.masks(second.labels, "masks of a second seed")
    changed = random.masks(random.labels, "masks of the random model")
    estimates = _estimates(masks.values, again.values, changed.values, seed)
    too_similar = estimates["difference"].is_below(_MIN_DROP)
    unclear = too_similar is None or not estimates["same"].mean >= _MIN_SAME
    return ModelRandomization(
        **estimates,
        retrained=trained is not None,
        randomize=randomize if random_model is None else "given",
        steps=done,
        validated=validated,
        missing=dict(Counter(masks.failures) + Counter(again.failures) + Counter(changed.failures)),
        passed=None if unclear else not too_similar,
    )


def _estimates(masks: Mask, again: Mask, changed: Mask, seed: int) -> dict[str, Estimate]:
    same, random = similarity(masks, again), similarity(masks, changed)
    values = {
        "same": same,
        "random": random,
        "difference": same - random,
        "same_overlap": overlap(masks, again),
        "random_overlap": overlap(masks, changed),
    }
    return {name: Estimate.of(each, seed) for name, each in values.items()}


def _train(
    checked: CheckedMasker, images: Any, options: Mapping[str, Any], stage: str
) -> RealTimeMasker:
    """A new masker for the model of `checked`."""

    def on_step(step: FitStep) -> None:
        if checked.on_stage is not None:
            checked.on_stage(stage, step.number, step.of)

    with warnings.catch_warnings():
        # short trainings fail their validation, which is part of the result
        warnings.simplefilter("ignore")
        try:
            return fit(checked.black_box, images, **{"on_step": on_step, **options})
        except TypeError as error:
            if "unexpected keyword" in str(error):
                raise InputError(f"fit_options: {error}.") from error
            raise
