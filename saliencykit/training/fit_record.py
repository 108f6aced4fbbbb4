"""What a training says of itself: before it begins, and in the file of the masker."""

import math
import time
import warnings
from dataclasses import asdict, fields
from typing import Any

import torch

from saliencykit._version import __version__
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ReliabilityWarning
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.training.encoder_choice import Start
from saliencykit.training.image_split import ImageSplit
from saliencykit.training.loop import Loop
from saliencykit.training.schedule import Schedule
from saliencykit.training.threshold_fit import learn_threshold
from saliencykit.training.validation import ValidationReport, validate


def summary(
    network: MaskingNetwork,
    partial_network: PartialNetwork | None,
    schedule: Schedule,
    data: ImageSplit,
    device: torch.device,
) -> str:
    """What will be trained, on what and in which phases, in a line of text."""
    height, width = data.size
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


def finished_masker(
    loop: Loop,
    start: Start,
    black_box: BlackBox,
    data: ImageSplit,
    boxes: Any,
    report: ValidationReport,
    started: float,
) -> RealTimeMasker:
    """The trained masker with the record of its training; warns if it failed its validation.

    Args:
        loop: The finished training.
        start: What it started with.
        black_box: The user's model.
        data: Its images.
        boxes: Images with bounding boxes, from which thresholds are learned; None: none.
        report: The last validation; of a stand-in, which is then validated again on the model.
        started: `time.perf_counter()` when it began.
    """
    if start.facts is not None:
        fill, seed = loop.schedule.alternative, loop.schedule.seed
        held_out = data.targets(black_box)
        report = validate(loop.network, black_box, *held_out, alternative=fill, seed=seed)
    cuts = None if boxes is None else learn_threshold(loop.network, black_box, boxes)
    if cuts is not None:
        loop.on_message(f"thresholds of boxes: {cuts}")
    if not report.passed:
        warnings.warn(_advice(report.fake, report.mosaic), ReliabilityWarning, stacklevel=3)
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
        "stand_in": start.facts,
        "box_threshold": None if cuts is None else asdict(cuts),
        "seconds": round(time.perf_counter() - started, 1),
    }
    metadata = {"size": data.size, "training": training, "validation": report.as_dict()}
    return RealTimeMasker(network=loop.network.eval(), metadata=metadata).bind(black_box)


def _advice(fake: float, mosaic: float) -> str:
    share = f", and {mosaic:.2f} of the mask is in the right quarter of mosaics (chance: 0.25)"
    return (
        f"the masker failed held-out validation: an absent class gets {fake:.2f} of the area of a "
        f"present one (should be below 0.15){'' if math.isnan(mosaic) else share}. More images or "
        "steps help."
    )
