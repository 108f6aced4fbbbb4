"""fit(): train a masking network for a classifier, on images that need no labels."""

import hashlib
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.objective import Objective
from saliencykit.core.optional_packages import required
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import Labels as GivenLabels
from saliencykit.data.sources import is_folder, refuse_inside
from saliencykit.data.training_images import TrainingImages, read_training_images
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.registry.coerce import as_alternative, as_black_box, as_objective
from saliencykit.runs.resumed_run import run_in, same_threads
from saliencykit.terms.area import AREAS, Area
from saliencykit.terms.presets import paper
from saliencykit.training.absent_labels import has_fakes
from saliencykit.training.cache import bytes_per_view, fill_cache, make_views
from saliencykit.training.encoder_choice import Start, chosen_encoder, start_with
from saliencykit.training.fit_record import finished_masker, summary
from saliencykit.training.image_split import ImageSplit
from saliencykit.training.loop import Loop
from saliencykit.training.schedule import FitStep, Schedule, make_schedule

if TYPE_CHECKING:
    from accelerate import Accelerator

_MEMORY = 4 * 2**30  # bytes for cached features, at most
_SCHEDULED = (
    "steps", "pixel_steps", "warmup_steps", "distill_steps", "batch_size", "lr", "area",
    "fake_class_rate", "views_per_image", "mixed_precision", "seed",
)  # fmt: skip
_STAND_IN = (
    "training on a linear function of the encoder: {queries} queries; it predicts "
    "{agreement:.0%} of {of}"
)


def fit(
    model: object,
    images: Any,
    labels: GivenLabels | None = None,
    *,
    boxes: Any = None,
    encoder: object = "auto",
    network: MaskingNetwork | None = None,
    objective: Objective | str = "masking-network",
    alternative: Alternative | str = "choice",
    area: float | None = None,
    steps: int | None = None,
    pixel_steps: int | None = None,
    warmup_steps: int | None = None,
    distill_steps: int | None = None,
    feature_mixing: bool | None = None,
    batch_size: int = 16,
    lr: float = 3e-3,
    fake_class_rate: float = 0.5,
    mask_stride: int | None = None,
    views_per_image: int = 2,
    checkpoint_dir: str | Path | None = None,
    resume: bool = True,
    mixed_precision: str = "no",
    cache_bytes: int = _MEMORY,
    seed: int = 0,
    on_step: Callable[[FitStep], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> RealTimeMasker:
    """Train a masking network for a classifier: prediction and mask then come from one pass.

    With another network as the encoder the mask takes a pass of that network, for any classifier.

    The classifier is only queried, never changed. Images need no labels: its own top classes serve.
    Some of them are held out for validation: is the mask specific to the class, and does it keep
    what matters? On a CPU most steps mix cached features (see `choose_split_layer`) and the last
    ones compose pixels; elsewhere all of them compose pixels.

    Args:
        model: As for `explain`; differentiable, or with a network as the `encoder`: a model that
            can only be queried is then replaced in training by a linear function of that network.
        images: A folder, a list of paths, PIL images or arrays, a tensor (N, C, H, W), a data set
            of images or (image, label), or batches (images, labels). Hundreds are enough; four is
            the least.
        labels: One class per image. None: those of the data set, else the model's own top class.
        boxes: 50 to 200 images with bounding boxes, as a data set in any form that `evaluate`
            takes: the masker then learns where to cut each mask for `Explanation.boxes`. Four
            folds decide whether that, one threshold for all, or 0.5 is used. None: 0.5.
        encoder: `trunk`, `paper`, `own`, `auto` or an Encoder, see `masking_network`; or a network
            to read the images with, frozen: `timm:vit_small_patch14_dinov2.lvd142m`, or a
            classifier in any form that `explain` takes. Its layers, size and normalization are its
            own.
        network: A network to train further, instead of a new one.
        objective: An Objective or its name: `masking-network`, `paper` (collapses, as a warning
            says), `paper-mean`, `authors`, ...
        alternative: What replaces pixels, drawn independently for the kept and the dropped image.
        area: Target mean area in (0, 1): the area's weight is steered towards it. None: the
            objective's weight decides.
        steps: Steps of phase 2. None: from the number of images, 400 to 600.
        pixel_steps: How many of them, the last ones, compose pixels where the others mix features.
            None: a fifth.
        warmup_steps: Steps of phase 1 before those, in which the selector learns which classes are
            present, where its filters are not the classifier's own. None: 150, at most twice
            `steps`. An encoder trained from scratch needs several hundred.
        distill_steps: Steps of distillation between those two: the decoder learns the mean of its
            own masks and a cheap teacher's (excitation backprop, blurred, `universal`, CAM or
            Grad-CAM, whichever does better on held-out images), half of them of images that are
            pasted small on others. Kept only if the validation is no worse. None: twice `steps`; 0:
            none.
        feature_mixing: Mix features rather than pixels at first. None: on a CPU, where the network
            allows it.
        batch_size: Images per step, >= 2.
        lr: Peak learning rate.
        fake_class_rate: Fraction of rows whose selected class is absent, in [0, 1). The paper's 0.3
            leaves absent classes a sixth of the area of a present one when images and steps are
            few.
        mask_stride: Image pixels per mask pixel, see `masking_network`.
        views_per_image: Views of each image, >= 1: the whole image, then crops and flips.
        checkpoint_dir: For checkpoints, `log.jsonl` and previews of masks. None: nothing is
            written, and an interrupted training is lost.
        resume: Resume from the last checkpoint; it ends with the same weights as an uninterrupted
            training.
        mixed_precision: `no` or `bf16`.
        cache_bytes: Bytes for cached features, and half as many for images; with more data, fewer
            views and a random subset of the images are used.
        seed: Random seed in [0, 2**63).
        on_step: Called with each FitStep.
        on_message: Called with a line of text when a stage begins.

    Returns:
        The trained masker, bound to the model; `save` it.

    Raises:
        InputError: The model, the images or an argument cannot be used; the message says why.
        GradientError: The model can only be queried, and the encoder is no network.
        SaliencyKitError: The loss was not finite five times in a row, or the disk is full;
            checkpoints stay.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> masker = fit(black_box, black_box.examples(16, generator=g)[0], steps=2, batch_size=4)
        >>> logits, mask = masker.predict(black_box.examples(2, generator=g)[0])
        >>> mask.shape
        torch.Size([2, 1, 16, 16])

    References:
        Dabkowski & Gal 2017, section 4.
    """
    given, started = dict(locals()), time.perf_counter()
    directory = None if checkpoint_dir is None else Path(checkpoint_dir).expanduser()
    checks.seed(seed, "fit")
    black_box = as_black_box(model)
    chosen = chosen_encoder(encoder if network is None else network.encoder, black_box)
    accelerator = _accelerator(black_box)
    goal = _with_area(as_objective(objective), area)
    fill = as_alternative(alternative).for_black_box(black_box)
    options = {name: given[name] for name in _SCHEDULED}
    say = on_message or (lambda line: None)
    with_labels = labels is not None or not is_folder(images)
    with ExitStack() as held:
        held.enter_context(rng.isolated(black_box.device, seeded=True))
        _prepare(directory, images, accelerator, resume, held)
        dataset = Dataset.open(images, black_box, labels=labels, use_labels=with_labels)
        every = read_training_images(dataset, memory=cache_bytes // 2, seed=seed)
        data = ImageSplit.of(every, seed, accelerator)
        start = start_with(
            network, chosen, black_box, data, fill, mask_stride=mask_stride,
            views_per_image=views_per_image, seed=seed,
        )  # fmt: skip
        mixing = _partial_network(start.black_box, data, feature_mixing)
        schedule = _schedule(start, data, mixing, goal, fill, options)
        loop = _loop(
            start, mixing, data, schedule, accelerator, cache_bytes, directory=directory,
            source_hash=_source_hash(black_box, every), on_step=on_step or (lambda step: None),
            on_message=say,
        )  # fmt: skip
        report = loop.run(resume=resume)
        return finished_masker(loop, start, black_box, data, boxes, report, started)


def _prepare(
    directory: Path | None, images: Any, accelerator: "Accelerator", resume: bool, held: ExitStack
) -> None:
    """Lock the directory of the checkpoints, if there is one, until the training ends."""
    if directory is None:
        return
    refuse_inside(directory, images, "fit")
    if accelerator.is_main_process:
        held.enter_context(run_in(directory, resume=resume))
    accelerator.wait_for_everyone()
    held.enter_context(same_threads(directory))


def _accelerator(black_box: BlackBox) -> "Accelerator":
    """For one or several processes, on the black box's device; settings that the calling program
    gave to accelerate stay.
    """
    make = required("accelerate", "training", "train").Accelerator
    try:
        return make(cpu=black_box.device.type == "cpu")
    except ValueError:  # one was made before, for another device
        return make()


def _with_area(objective: Objective, area: float | None) -> Objective:
    """The objective with a term that a target area can steer; warns of literal weights."""
    if area is not None and not any(isinstance(term, AREAS) for term in objective.terms):
        return Objective((*objective.terms, Area(weight=4.0)), objective.fakes)
    if objective == paper() and area is None:
        warnings.warn(
            "the paper's weights taken literally (mean area x 0.001) let masks grow until "
            "everything is kept, and the summed total variation x 10 flattens them; they are here "
            "for comparison. Use objective='paper-mean', or area=0.3.",
            stacklevel=3,
        )
    return objective


def _partial_network(
    black_box: BlackBox, data: ImageSplit, feature_mixing: bool | None
) -> PartialNetwork | None:
    wanted = black_box.device.type == "cpu" if feature_mixing is None else feature_mixing
    few = data.statistics(black_box.device)[0][:2]
    return choose_split_layer(black_box, few) if wanted and black_box.module else None


def _schedule(
    start: Start,
    data: ImageSplit,
    mixing: PartialNetwork | None,
    goal: Objective,
    fill: Alternative,
    options: dict[str, Any],
) -> Schedule:
    encoder, count = start.network.encoder, len(data.training)
    if encoder.trained or not has_fakes(start.black_box):
        options["distill_steps"] = 0  # nothing is cached, or nothing can be pasted
    if isinstance(encoder, PretrainedEncoder) and options["warmup_steps"] is None:
        options["warmup_steps"] = 0  # its class filters are set
    options["batch_size"] = min(options["batch_size"], max(2, count))
    return make_schedule(goal, fill, count, start.network, mixing is not None, **options)


def _loop(
    start: Start,
    mixing: PartialNetwork | None,
    data: ImageSplit,
    schedule: Schedule,
    accelerator: "Accelerator",
    cache_bytes: int,
    *,
    on_message: Callable[[str], None],
    **rest: Any,
) -> Loop:
    """The training loop, with the features of as many views cached as memory allows."""
    network, black_box = start.network, start.black_box
    if start.facts is not None:
        on_message(_STAND_IN.format(**start.facts))
    on_message(summary(network, mixing, schedule, data, black_box.device))
    split_layer = mixing.feature_map if mixing is not None and schedule.mixing_steps else None
    room = cache_bytes // max(1, bytes_per_view(network.encoder, split_layer))
    most = min(max(schedule.batch_size, room), schedule.steps * schedule.batch_size)
    views = make_views(data.local, views=schedule.views_per_image, most=most, seed=schedule.seed)
    on_message(f"evaluating {len(views)} augmented images")
    fast = black_box.optimized_for(data.statistics(black_box.device)[0][:2])
    cache = fill_cache(views, fast, network.encoder, split_layer, schedule.alternative)
    parts = (network, fast, mixing, cache, data.targets(fast), schedule, accelerator)
    return Loop(*parts, model=black_box, on_message=on_message, **rest)


def _source_hash(black_box: BlackBox, every: TrainingImages) -> str:
    """A short hash of the model, the images and their labels: what a checkpoint belongs to."""
    digest = hashlib.sha256(str(fingerprint(black_box)).encode())
    for tensor in (every.pixels, every.labels):
        if tensor is not None:
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]
