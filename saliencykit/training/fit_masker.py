"""fit(): train a masking network for a classifier, on pictures that need no labels."""

import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saliencykit._version import __version__
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.objective import Objective
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import Labels, is_folder
from saliencykit.data.training_images import TrainingImages, read_training_images
from saliencykit.maskers.realtime.encoder import Encoder
from saliencykit.maskers.realtime.masking_network import (
    EncoderName,
    MaskingNetwork,
    masking_network,
)
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.registry.coerce import as_alternative, as_black_box, as_objective
from saliencykit.storage.atomic_files import writable
from saliencykit.terms.area import AREAS, Area
from saliencykit.terms.presets import paper
from saliencykit.training.cache import bytes_per_view, fill_cache, make_views
from saliencykit.training.loop import Loop
from saliencykit.training.schedule import FitStep, Schedule

if TYPE_CHECKING:
    from accelerate import Accelerator

_HELD_OUT = 48  # pictures that the gate looks at, at most; a fifth of a small set
_STATISTICS = 64  # pictures that the gate's scale and threshold are set from
_LOOKS = 8  # at the held-out pictures in a training
_FEWEST = (
    400  # steps; with 169 a class that is not there still got a sixth of the area of one that is
)
_MEMORY = 4 * 2**30  # bytes for cached features, at most


def fit(
    model: object,
    images: Any,
    labels: Labels | None = None,
    *,
    encoder: EncoderName | Encoder = "auto",
    network: MaskingNetwork | None = None,
    objective: Objective | str = "masking-network",
    alternative: Alternative | str = "choice",
    area: float | None = None,
    steps: int | None = None,
    pixel_steps: int | None = None,
    warmup_steps: int | None = None,
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

    The classifier is asked and never changed. Pictures need no labels: its own top classes serve. A
    part of them is held out to see whether the network is selective and keeps what matters. On a
    CPU most steps mix cached features (see `training.partial_network`), and the last ones compose pictures;
    elsewhere all of them compose pictures.

    Args:
        model: As for `explain`, differentiable.
        images: A folder, a list of paths, PIL pictures or arrays, a tensor (N, C, H, W), a data
            set of pictures or (picture, label), or batches (images, labels). Hundreds do; four is
            the least.
        labels: One class per picture. None: those of the data set, else the model's own top class.
        encoder: `trunk`, `paper`, `own`, `auto` or an Encoder, see `masking_network`.
        network: A network to go on training, instead of a new one.
        objective: An Objective or a text: `masking-network`, `paper` (collapses, as a warning
            says), `paper-mean`, `authors`, ...
        alternative: What replaces pixels, drawn independently for the kept and the dropped picture.
        area: The wanted mean area in (0, 1): the area's weight is steered towards it. None: the
            objective's weight decides.
        steps: Of phase 2. None: from the number of pictures, 400 to 600.
        pixel_steps: How many of them, the last ones, compose pictures where the others mix features.
            None: a fifth.
        warmup_steps: Steps of phase 1 before those, where the selector's rows are not the head's own and
            learn which classes are there. None: 150, and no more than twice `steps`. An encoder
            from nothing wants several hundred.
        feature_mixing: Mix features rather than pixels at first. None: on a CPU, where the network
            allows it.
        batch_size: Pictures a step, >= 2.
        lr: The largest learning rate.
        fake_class_rate: Share of rows that are asked for a class that is not there, in [0, 1). The
            paper's 0.3 leaves such classes a sixth of the area of one that is there, where pictures
            and steps are few.
        mask_stride: Pixels of the picture a pixel of the mask, see `masking_network`.
        views_per_image: Views of each picture, >= 1: the whole, then crops and flips.
        checkpoint_dir: For checkpoints, `log.jsonl` and pictures of masks. None: nothing is written, and a
            killed run is lost.
        resume: Go on where the folder's checkpoint stopped; it ends with the same weights as an
            uninterrupted run.
        mixed_precision: `no` or `bf16`.
        cache_bytes: Bytes for cached features, and half as many for pictures; fewer views, and a drawn
            part of the pictures, are used where they do not fit.
        seed: Of everything that is drawn, in [0, 2**63).
        on_step: Called with each Step.
        on_message: Called with a line of text when something begins.

    Returns:
        The trained masker, bound to the model; `save` it.

    Raises:
        InputError: The model, the pictures or an argument cannot be used as they are.
        GradientError: The model can only be queried.
        SaliencyKitError: The loss was not finite five times in a row, or the disk is full;
            checkpoints stay.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> masker = fit(black_box, black_box.examples(16, generator=g)[0], steps=2, batch_size=4)
        >>> logits, mask = masker.predict(black_box.examples(2, generator=g)[0])
        >>> mask.shape
        torch.Size([2, 1, 16, 16])

    References:
        Dabkowski & Gal 2017, section 4.
    """
    started = time.perf_counter()
    say = on_message or (lambda line: None)
    checks.seed(seed, "fit")
    path = None if checkpoint_dir is None else Path(checkpoint_dir).expanduser()
    if path is not None:
        writable(path)
    original = as_black_box(model)
    if not original.differentiable:
        raise GradientError(
            f"fit needs gradients and {name_of(original)} is query-only. Teach a differentiable "
            "model to answer like it first, surrogate = fit_surrogate(model, pictures), and "
            "fit(surrogate, pictures); on the command line `saliencykit fit-surrogate`."
        )
    accelerator = _accelerator(original)
    goal, fill = as_objective(objective), as_alternative(alternative).for_black_box(original)
    goal = _with_area(goal, area)
    with rng.isolated(original.device):
        data = Dataset.open(
            images, original, labels=labels, use_labels=labels is not None or not is_folder(images)
        )
        every = read_training_images(data, memory=cache_bytes // 2, seed=seed)
        size = every.pixels.shape[1:]
        training, held = _split(every, seed)
        mine = _share(training, accelerator.process_index, accelerator.num_processes)
        sample = training.images(torch.arange(min(_STATISTICS, len(training)))).to(original.device)
        black_box = original.optimized_for(sample[:2])
        given = (
            None if training.labels is None else training.labels[: len(sample)].to(original.device)
        )
        if network is None:
            network = masking_network(
                original, sample, given, encoder=encoder, mask_stride=mask_stride, seed=seed
            )
        mix = original.device.type == "cpu" if feature_mixing is None else feature_mixing
        partial_network = (
            choose_split_layer(original, sample[:2])
            if mix and original.module is not None
            else None
        )
        plan = _plan(
            goal, fill, network, partial_network, len(training), steps, pixel_steps, warmup_steps,
            batch_size=min(batch_size, max(2, len(training))), lr=lr, fake_class_rate=fake_class_rate, area=area, views_per_image=views_per_image, seed=seed,
            mixed_precision=mixed_precision,
        )  # fmt: skip
        say(_what(network, partial_network, plan, len(training), tuple(size), original.device))
        feature_map = (
            partial_network.feature_map if partial_network is not None and plan.mixing else None
        )
        room = max(
            plan.batch_size, cache_bytes // max(1, bytes_per_view(network.encoder, feature_map))
        )
        chosen = make_views(
            mine, views=views_per_image, most=min(room, plan.steps * plan.batch_size), seed=seed
        )
        say(f"asking the model about {len(chosen)} views")
        cache = fill_cache(chosen, black_box, network.encoder, feature_map, fill)
        images = held.images(torch.arange(len(held))).to(original.device)
        with torch.no_grad():
            asked = (
                black_box(images).argmax(1)
                if held.labels is None
                else held.labels.to(original.device)
            )
        loop = Loop(
            network, black_box, partial_network, cache, (images, asked), plan, accelerator,
            folder=path, about=_about(original, every), on_step=on_step or (lambda step: None),
        )  # fmt: skip
        gate = loop.run(resume=resume)
    if not gate.passed:
        warnings.warn(_advice(gate.fake, gate.mosaic), stacklevel=2)
    facts = {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "pictures": len(training),
        "own_labels": every.labels is None,
        "plan": {
            key: repr(value) if key in ("objective", "alternative") else value
            for key, value in asdict(plan).items()
        }
        | {"objective": repr(plan.objective), "alternative": repr(plan.alternative)},
        "steps_done": loop.done,
        "seconds": round(time.perf_counter() - started, 1),
    }
    network.eval()
    return RealTimeMasker(
        network=network,
        metadata={"size": list(size[1:]), "training": facts, "gate": gate.as_facts()},
    ).bind(original)


def _accelerator(black_box: BlackBox) -> "Accelerator":
    """For several processes; what the calling program told accelerate before about devices stands,
    and the box's device is used.
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
    """The objective with a term that a wanted area can steer, and the warning that the paper's
    literal weights deserve.
    """
    if area is not None and not any(isinstance(term, AREAS) for term in objective.terms):
        return Objective((*objective.terms, Area(weight=4.0)), objective.fakes)
    if objective == paper() and area is None:
        warnings.warn(
            "the paper's weights read literally (mean area x 0.001) leave masks to grow until "
            "everything is kept, and the summed variation x 10 flattens them; they are here to be "
            "compared with. Use objective='paper-mean', or area=0.3.",
            stacklevel=3,
        )
    return objective


def _about(black_box: BlackBox, every: TrainingImages) -> str:
    """A short hash of the model and of some pixels of each picture: what a checkpoint belongs to."""
    some = every.pixels.flatten(1)[:, ::97].contiguous().numpy().tobytes()
    asked = b"" if every.labels is None else every.labels.numpy().tobytes()
    return hashlib.sha256(str(fingerprint(black_box)).encode() + some + asked).hexdigest()[:16]


def _split(every: TrainingImages, seed: int) -> tuple[TrainingImages, TrainingImages]:
    """Training pictures and those held out for the gate."""
    count = min(_HELD_OUT, max(1, len(every) // 5))
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    return _rows(every, order[count:]), _rows(every, order[:count])


def _share(pictures: TrainingImages, index: int, processes: int) -> TrainingImages:
    """What one of several processes trains on; all of them get equally many."""
    each = len(pictures) // processes
    if each < 2:
        raise InputError(
            f"fit got {len(pictures)} training pictures for {processes} processes; each needs two."
        )
    return (
        pictures
        if processes == 1
        else _rows(pictures, torch.arange(index, each * processes, processes))
    )


def _rows(pictures: TrainingImages, index: Tensor) -> TrainingImages:
    return TrainingImages(
        pictures.pixels[index],
        None if pictures.labels is None else pictures.labels[index],
        pictures.skipped,
    )


def _plan(
    goal: Objective,
    fill: Alternative,
    network: MaskingNetwork,
    partial_network: PartialNetwork | None,
    count: int,
    steps: int | None,
    composed: int | None,
    warmup_steps: int | None,
    **options: Any,
) -> Schedule:
    """Phases and their lengths: three epochs of every view with late mixing, then a quarter as many
    composed steps.
    """
    longest = (
        warmup_steps if warmup_steps is not None else 150 if steps is None else min(150, 2 * steps)
    )
    warmup_steps = longest if getattr(network.selector, "own", False) else 0
    batch_size, views = options["batch_size"], options["views_per_image"]
    # the plan refuses a batch of 0
    wanted = 3 * count * views // max(1, batch_size) if steps is None else steps
    if partial_network is not None:
        total = min(600, max(_FEWEST, wanted)) if steps is None else steps
        mixing = total - min(total, total // 5 if composed is None else composed)
        often = max(25, total // _LOOKS)
        return Schedule(
            goal,
            fill,
            warmup_steps=warmup_steps,
            mixing=mixing,
            composing=total - mixing,
            gate_every=often,
            **options,
        )
    total = min(600, max(_FEWEST, wanted)) if steps is None else steps
    return Schedule(
        goal,
        fill,
        warmup_steps=warmup_steps,
        composing=total,
        gate_every=max(25, total // _LOOKS),
        **options,
    )


def _what(
    network: MaskingNetwork,
    partial_network: PartialNetwork | None,
    plan: Schedule,
    count: int,
    size: tuple[int, ...],
    device: torch.device,
) -> str:
    rows = "learned" if getattr(network.selector, "own", False) else "the head's own"
    how = (
        f"{plan.mixing} steps mixing features at {partial_network.feature_map.name!r}, then "
        if partial_network is not None and plan.mixing
        else ""
    )
    warm = f"{plan.warmup_steps} steps warming up the selector, " if plan.warmup_steps else ""
    return (
        f"{count} pictures of {size[1]}x{size[2]} on {device}; encoder {network.encoder.kind}, "
        f"rows {rows}; {warm}{how}{plan.composing} steps with composed pictures, {plan.batch_size} at "
        "a time"
    )


def _advice(fake: float, mosaic: float) -> str:
    right = (
        ""
        if mosaic != mosaic
        else f", {mosaic:.2f} of the mass lies in the right quarter of mosaics (chance 0.25)"
    )
    return (
        f"the masker did not pass its gate: a class that is not there gets {fake:.2f} of the area "
        f"of one that is (wanted: below 0.15){right}. More pictures or steps help."
    )
