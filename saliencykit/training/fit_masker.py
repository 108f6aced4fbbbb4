"""fit(): train a masking network for a classifier, on images that need no labels."""

import hashlib
import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Generator, Tensor

from saliencykit._version import __version__
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.objective import Objective
from saliencykit.core.types import Images, Labels
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import Labels as GivenLabels
from saliencykit.data.sources import is_folder, refuse_inside
from saliencykit.data.training_images import TrainingImages, read_training_images
from saliencykit.maskers.realtime.masking_network import MaskingNetwork, masking_network
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.registry.coerce import as_alternative, as_black_box, as_objective
from saliencykit.runs.resumed_run import run_in, same_threads
from saliencykit.terms.area import AREAS, Area
from saliencykit.terms.presets import paper
from saliencykit.training.cache import bytes_per_view, fill_cache, make_views
from saliencykit.training.encoder_choice import chosen_encoder, prepare_encoder
from saliencykit.training.loop import Loop
from saliencykit.training.schedule import FitStep, Schedule, make_schedule
from saliencykit.training.threshold_fit import ThresholdReport, learn_threshold
from saliencykit.training.validation import ValidationReport, has_fakes, validate

if TYPE_CHECKING:
    from accelerate import Accelerator

_HELD_OUT = 48  # images for validation, at most; a fifth of a small set
_STATISTICS = 64  # images from which the selector's scale and threshold are set
_PROBED = 512  # views by which the class filters of a network as the encoder are set
_MEMORY = 4 * 2**30  # bytes for cached features, at most


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
            own masks and a cheap teacher's (excitation backprop, blurred, or CAM or Grad-CAM,
            whichever does better on held-out images), half of them of images that are pasted small
            on others. Kept only if the validation is no worse. None: twice `steps`; 0: none.
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
    started = time.perf_counter()
    directory = None if checkpoint_dir is None else Path(checkpoint_dir).expanduser()
    checks.seed(seed, "fit")
    black_box = as_black_box(model)
    chosen = chosen_encoder(encoder if network is None else network.encoder, black_box)
    accelerator = _accelerator(black_box)
    goal = _with_area(as_objective(objective), area)
    fill = as_alternative(alternative).for_black_box(black_box)
    options: dict[str, Any] = {"steps": steps, "pixel_steps": pixel_steps, "seed": seed, "lr": lr}
    options |= {"distill_steps": distill_steps, "warmup_steps": warmup_steps}
    options |= {"views_per_image": views_per_image, "area": area}
    options |= {"fake_class_rate": fake_class_rate, "mixed_precision": mixed_precision}
    with_labels = labels is not None or not is_folder(images)
    with ExitStack() as held:
        held.enter_context(rng.isolated(black_box.device, seeded=True))
        if directory is not None:
            _prepare(directory, images, accelerator, resume, held)
        dataset = Dataset.open(images, black_box, labels=labels, use_labels=with_labels)
        every = read_training_images(dataset, memory=cache_bytes // 2, seed=seed)
        data = _Split.of(every, seed, accelerator)
        sample = data.statistics(black_box.device)
        if isinstance(chosen, BlackBox):
            chosen = PretrainedEncoder(chosen, (sample[0].shape[2], sample[0].shape[3]))
        say, new = on_message or _silent, network is None
        network = network or masking_network(
            black_box, *sample, encoder=chosen, mask_stride=mask_stride, seed=seed
        )
        views = make_views(data.local, views=views_per_image, most=_PROBED, seed=seed)
        trained_on, stand_in = prepare_encoder(network, black_box, views, fill, new)
        if stand_in is not None:
            say(
                "training on a linear function of the encoder: {queries} queries, the same top "
                "class on {agreement:.0%} of held-out images".format(**stand_in)
            )
        partial_network = _partial_network(trained_on, sample[0], feature_mixing)
        if network.encoder.trained or not has_fakes(black_box):
            options["distill_steps"] = 0  # nothing is cached, or nothing can be pasted
        if isinstance(network.encoder, PretrainedEncoder) and warmup_steps is None:
            options["warmup_steps"] = 0  # the class filters are set
        options["batch_size"] = min(batch_size, max(2, len(data.training)))
        mixes = partial_network is not None
        schedule = make_schedule(goal, fill, len(data.training), network, mixes, **options)
        parts = (network, trained_on, partial_network)
        loop = _loop(*parts, data, schedule, accelerator, cache_bytes, say)
        loop.directory = loop.optimizer.directory = directory
        loop.source_hash, loop.on_step = _source_hash(black_box, every), on_step or loop.on_step
        loop.model, loop.on_message = trained_on, say
        report = loop.run(resume=resume)
        if stand_in is not None:
            report = validate(
                network, black_box, *data.targets(black_box), alternative=fill, seed=seed
            )
        cuts = None if boxes is None else learn_threshold(network, loop.black_box, boxes)
    if cuts is not None:
        say(f"thresholds of boxes: {cuts}")
    seconds = time.perf_counter() - started
    return _masker(loop, black_box, data, report, seconds, cuts, stand_in)


def _silent(line: str) -> None:
    """Say nothing."""


def _prepare(
    directory: Path, images: Any, accelerator: "Accelerator", resume: bool, held: ExitStack
) -> None:
    """Lock the directory of the checkpoints until the training ends."""
    refuse_inside(directory, images, "fit")
    if accelerator.is_main_process:
        held.enter_context(run_in(directory, resume=resume))
    accelerator.wait_for_everyone()
    held.enter_context(same_threads(directory))


def _accelerator(black_box: BlackBox) -> "Accelerator":
    """For one or several processes, on the black box's device; settings that the calling program
    gave to accelerate stay.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise InputError("training needs accelerate; pip install 'saliencykit[train]'.") from None
    try:
        return Accelerator(cpu=black_box.device.type == "cpu")
    except ValueError:  # one was made before, for another device
        return Accelerator()


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


@final
@dataclass(frozen=True)
class _Split:
    """Training images, those of this process, and held-out ones."""

    training: TrainingImages
    local: TrainingImages
    held_out: TrainingImages

    @classmethod
    def of(cls, every: TrainingImages, seed: int, accelerator: "Accelerator") -> "_Split":
        """Hold out up to 48 images, a fifth of a small set; all processes get equally many."""
        count = min(_HELD_OUT, max(1, len(every) // 5))
        order = torch.randperm(len(every), generator=Generator().manual_seed(seed), device="cpu")
        training, processes = _rows(every, order[count:]), accelerator.num_processes
        each = len(training) // processes
        if each < 2:
            raise InputError(
                f"fit got {len(training)} training images for {processes} processes; each needs "
                "two."
            )
        own = torch.arange(accelerator.process_index, each * processes, processes, device="cpu")
        local = training if processes == 1 else _rows(training, own)
        return cls(training, local, _rows(every, order[:count]))

    def statistics(self, device: torch.device) -> tuple[Images, Labels | None]:
        """Some training images with their labels, for the selector's scale and threshold."""
        images = self.training.images(
            torch.arange(min(_STATISTICS, len(self.training)), device="cpu")
        )
        labels = self.training.labels
        return images.to(device), None if labels is None else labels[: len(images)].to(device)

    def targets(self, black_box: BlackBox) -> tuple[Images, Labels]:
        """Held-out images and their labels: the user's, or the model's own top classes."""
        images = self.held_out.images(torch.arange(len(self.held_out), device="cpu")).to(
            black_box.device
        )
        if self.held_out.labels is not None:
            return images, self.held_out.labels.to(black_box.device)
        with torch.no_grad():
            return images, black_box(images).argmax(1)


def _rows(images: TrainingImages, index: Tensor) -> TrainingImages:
    labels = None if images.labels is None else images.labels[index]
    return TrainingImages(images.pixels[index], labels, images.skipped)


def _partial_network(
    black_box: BlackBox, sample: Images, feature_mixing: bool | None
) -> PartialNetwork | None:
    wanted = black_box.device.type == "cpu" if feature_mixing is None else feature_mixing
    return choose_split_layer(black_box, sample[:2]) if wanted and black_box.module else None


def _loop(
    network: MaskingNetwork,
    black_box: BlackBox,
    partial_network: PartialNetwork | None,
    data: _Split,
    schedule: Schedule,
    accelerator: "Accelerator",
    cache_bytes: int,
    say: Callable[[str], None],
) -> Loop:
    """The training loop, with the features of as many views cached as memory allows."""
    say(_summary(network, partial_network, schedule, data, black_box.device))
    mixes = partial_network is not None and schedule.mixing_steps > 0
    split_layer = partial_network.feature_map if partial_network is not None and mixes else None
    room = cache_bytes // max(1, bytes_per_view(network.encoder, split_layer))
    most = min(max(schedule.batch_size, room), schedule.steps * schedule.batch_size)
    views = make_views(data.local, views=schedule.views_per_image, most=most, seed=schedule.seed)
    say(f"evaluating {len(views)} augmented images")
    fast = black_box.optimized_for(data.statistics(black_box.device)[0][:2])
    cache = fill_cache(views, fast, network.encoder, split_layer, schedule.alternative)
    held_out = data.targets(fast)
    return Loop(network, fast, partial_network, cache, held_out, schedule, accelerator)


def _source_hash(black_box: BlackBox, every: TrainingImages) -> str:
    """A short hash of the model, the images and their labels: what a checkpoint belongs to."""
    digest = hashlib.sha256(str(fingerprint(black_box)).encode())
    for tensor in (every.pixels, every.labels):
        if tensor is not None:
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _summary(
    network: MaskingNetwork,
    partial_network: PartialNetwork | None,
    schedule: Schedule,
    data: _Split,
    device: torch.device,
) -> str:
    height, width = data.training.pixels.shape[2:]
    filters = "learned" if network.selector.trained else "the classifier's own"
    phases = f"{schedule.pixel_steps} steps on composed pixels"
    if schedule.distill_steps:
        phases = f"{schedule.distill_steps} steps of distillation, then {phases}"
    if partial_network is not None and schedule.mixing_steps:
        layer = partial_network.feature_map.name
        phases = f"{schedule.mixing_steps} steps mixing features at {layer!r}, then {phases}"
    if schedule.warmup_steps:
        phases = f"{schedule.warmup_steps} steps of selector warmup, {phases}"
    return (
        f"{len(data.training)} images of {height}x{width} on {device}; encoder "
        f"{network.encoder.kind}, class filters {filters}; {phases}, batch size "
        f"{schedule.batch_size}"
    )


def _masker(
    loop: Loop,
    black_box: BlackBox,
    data: _Split,
    report: ValidationReport,
    seconds: float,
    cuts: ThresholdReport | None,
    stand_in: dict[str, Any] | None,
) -> RealTimeMasker:
    """The trained masker with the record of its training; warns if it failed its validation."""
    if not report.passed:
        warnings.warn(_advice(report.fake, report.mosaic), stacklevel=3)
    schedule = {key.name: getattr(loop.schedule, key.name) for key in fields(loop.schedule)}
    schedule |= {key: repr(schedule[key]) for key in ("objective", "alternative")}
    training = {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "images": len(data.training),
        "own_labels": data.training.labels is None,
        "schedule": schedule,
        "steps_done": loop.done,
        "distillation": loop.distilled,
        "stand_in": stand_in,
        "box_threshold": None if cuts is None else asdict(cuts),
        "seconds": round(seconds, 1),
    }
    size = list(data.training.pixels.shape[2:])
    metadata = {"size": size, "training": training, "validation": report.as_dict()}
    return RealTimeMasker(network=loop.network.eval(), metadata=metadata).bind(black_box)


def _advice(fake: float, mosaic: float) -> str:
    share = f", and {mosaic:.2f} of the mask is in the right quarter of mosaics (chance: 0.25)"
    return (
        f"the masker failed held-out validation: an absent class gets {fake:.2f} of the area of a "
        f"present one (should be below 0.15){'' if math.isnan(mosaic) else share}. More images or "
        "steps help."
    )
