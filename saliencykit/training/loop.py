"""The training loop: on a CPU, on a GPU, and in several processes."""

import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.storage.atomic_files import write_text
from saliencykit.storage.jsonl import append_lines
from saliencykit.training.cache import Cache
from saliencykit.training.fit_checkpoint import load_state, save_state
from saliencykit.training.mask_distillation import Distillation, distillation
from saliencykit.training.optimizer import Optimizer
from saliencykit.training.preview import save_preview
from saliencykit.training.schedule import FitStep, Schedule
from saliencykit.training.step_loss import StepLoss
from saliencykit.training.validation import ValidationReport, validate

if TYPE_CHECKING:
    from accelerate import Accelerator

# the step of a line of the log; the last line, about the end, has none
_LOGGED = re.compile(r'(?:"number"|"(?:validation|distillation)": \{"step"): ([0-9]{1,9})\b')
_SAVE_SECONDS = 60.0  # between checkpoints, at most
_NOISE = 0.04  # of the validation score, on about fifty images


@final
@dataclass(eq=False)
class Loop:
    """Trains a masking network by a schedule.

    Args:
        network: Trained in place.
        black_box: Frozen, optimized for many evaluations.
        partial_network: The classifier from the split layer on, for feature mixing; or None.
        cache: The training views.
        held_out: Images (N, C, H, W) and labels (N,) for validation.
        schedule: What to do.
        accelerator: Of one or several processes.
        directory: For checkpoints, the log and previews; None: nothing is written.
        source_hash: Of model and images; a checkpoint with another one is refused.
        on_step: Called after each step.
        on_message: Called with a line of text when a stage begins.
        model: The black box as it was given, for the teachers of distillation; None: `black_box`.

    References:
        Dabkowski & Gal 2017, section 4.2 (fake classes, a new alternative for each edit); settings
        from our own trials.
    """

    network: MaskingNetwork
    black_box: BlackBox
    partial_network: PartialNetwork | None
    cache: Cache
    held_out: tuple[Images, Labels]
    schedule: Schedule
    accelerator: "Accelerator"
    _: KW_ONLY
    directory: Path | None = None
    source_hash: str = ""
    on_step: Callable[[FitStep], None] = lambda step: None
    on_message: Callable[[str], None] = lambda line: None
    model: BlackBox | None = None

    def __post_init__(self) -> None:
        """Make the optimizer and the loss; nothing is done yet."""
        kept = (self.schedule, self.accelerator)
        self.optimizer = Optimizer(self.network, *kept, self.directory)
        self.loss = StepLoss(self.network, self.black_box, self.partial_network, self.cache, *kept)
        self.done, self.stopped = 0, False
        self.validations: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.before: dict[str, Tensor] | None = None  # the weights before distillation
        self.distillation: Distillation | None = None
        self.distilled: dict[str, Any] = {}

    def run(self, *, resume: bool) -> ValidationReport:
        """Run all steps, from the checkpoint if there is one.

        Returns:
            The validation of the final network.

        Raises:
            SaliencyKitError: The loss was not finite five times in a row, or the disk is full; the
                last checkpoint stays.
            InputError: The checkpoint is damaged or belongs to another training.
        """
        started, schedule = time.perf_counter(), self.schedule
        saved = started
        if resume:
            self._resume()
        self.optimizer.broadcast()
        while self.done < schedule.steps and not self.stopped:
            if schedule.phase(self.done)[0] == "distillation" and not self._can_distill():
                self.done = schedule.phase(self.done)[2]
                continue
            step = self._step(self.done)
            self.done += 1
            step = replace(step, of=schedule.steps, seconds=time.perf_counter() - started)
            self._log({"step": asdict(step)})
            self.on_step(step)
            if self.done == schedule.warmup_steps:
                self.loss.calibrate_selector(self.done)
                self.optimizer.average_buffers()
            phase, _, end = schedule.phase(self.done - 1)
            if phase == "distillation":
                if self.done == end:
                    self._keep_the_better()
            elif self._validation_is_due() and self._should_stop():
                later = schedule.distill_steps and phase == "feature-mixing"
                self.done, self.stopped = (end, False) if later else (self.done, True)
            late = time.perf_counter() - saved > _SAVE_SECONDS
            if late or self.done % schedule.save_every == 0:
                self._save()
                saved = time.perf_counter()
        report = self._validate()
        best = max((v["score"] for v in self.validations), default=-math.inf)
        if self.best is not None and report.score < best - 2 * _NOISE:
            self.network.load_state_dict(self.best)
            report = self._validate()
        self._log({"final": report.as_dict()})
        self._save()
        return report

    def _step(self, number: int) -> FitStep:
        schedule, device = self.schedule, self.black_box.device
        seed = schedule.seed * 1_000_003 + number * 1009 + self.accelerator.process_index
        generator = Generator().manual_seed(seed % 2**63)
        phase, _, _ = schedule.phase(number)
        self.optimizer.set_rate(number)
        self.network.train()
        bf16 = schedule.mixed_precision == "bf16"
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                if phase == "distillation":
                    loss, step = self._distill(number, generator)
                else:
                    loss, step = self.loss(number, phase, generator)
        except ContractError as error:
            nan = torch.tensor(math.nan, device=device, dtype=torch.float32)
            self.optimizer.step(nan, number, str(error))
            return FitStep(number + 1, phase, math.nan)
        if not self.optimizer.step(loss, number):
            step = replace(step, loss=math.nan)
        if phase in ("feature-mixing", "pixels"):
            self.loss.steer_area(step.area)
            step = replace(step, area_weight=self.loss.area_weight)
        return step

    def _can_distill(self) -> bool:
        """Choose a teacher and make its targets, unless that is done; False if there is none.

        A resumed training makes them again from the weights before the phase.
        """
        if self.distillation is None:
            current = self._weights()
            if self.before is None:
                self.optimizer.average_buffers()
                self.before = self._weights()
            self.network.load_state_dict(self.before)
            given = (self.cache, self.held_out, self.schedule, self.on_message)
            model, fast = self.model or self.black_box, self.black_box
            self.distillation = distillation(self.network, model, fast, *given)
            if self.distillation is not None:
                score = self._validate().score
                self.distilled = self.distillation.facts | {"score before": score}
            self.network.load_state_dict(current)
        return self.distillation is not None

    def _distill(self, number: int, generator: Generator) -> tuple[Tensor, FitStep]:
        assert self.distillation is not None
        size = max(2, self.schedule.batch_size // self.accelerator.num_processes)
        loss, masks, there = self.distillation.loss(self.network, self.black_box, size, generator)
        return loss, FitStep(
            number=number + 1,
            phase="distillation",
            loss=float(loss.detach()),
            area=float(masks[:there].detach().mean()),
            fake_area=float(masks[there:].detach().mean()) if len(masks) > there else math.nan,
        )

    def _keep_the_better(self) -> None:
        """At the end of distillation: keep the new weights, unless the validation got worse."""
        assert self.before is not None
        after = self._validate()
        kept = after.passed and after.score >= self.distilled["score before"] - _NOISE
        self.distilled |= {"score after": after.score, "kept": kept}
        self._log({"distillation": {"step": self.done} | self.distilled})
        scores = f"{self.distilled['score before']:.3f} to {after.score:.3f}"
        self.on_message(f"distillation {'kept' if kept else 'undone'}: validation {scores}")
        if kept:
            self.validations.append({"step": self.done} | after.as_dict())
            self._log({"validation": self.validations[-1]})
            self.best = self._weights()
        else:
            self.network.load_state_dict(self.before)
        self.distillation = None  # its features and targets are needed no more

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def _validation_is_due(self) -> bool:
        since_warmup = self.done - self.schedule.warmup_steps
        due = since_warmup > 0 and since_warmup % self.schedule.validate_every == 0
        return due and self.done < self.schedule.steps

    def _validate(self) -> ValidationReport:
        self.optimizer.average_buffers()
        fill, seed = self.schedule.alternative, self.schedule.seed
        return validate(self.network, self.black_box, *self.held_out, alternative=fill, seed=seed)

    def _should_stop(self) -> bool:
        """Validate, keep the best weights, and say whether it has stopped improving."""
        self.validations.append({"step": self.done} | self._validate().as_dict())
        self._log({"validation": self.validations[-1]})
        scores = [each["score"] for each in self.validations]
        if scores[-1] >= max(scores):
            self.best = self._weights()
        if self.directory is not None and self.accelerator.is_main_process:
            path = self.directory / f"masks-{self.done:06}.png"
            save_preview(self.network, self.black_box, *self.held_out, path=path)
        good = [i for i, score in enumerate(scores) if score >= max(scores) - _NOISE] or [-1]
        return len(scores) - 1 - good[-1] >= self.schedule.patience

    def _state(self) -> dict[str, Any]:
        return {
            "schedule": {key: repr(getattr(self.schedule, key)) for key in asdict(self.schedule)},
            "done": self.done,
            "area_weight": self.loss.area_weight,
            "smoothed_area": self.loss.smoothed_area,
            "validations": self.validations,
            "views": len(self.cache.views),
            "stopped": self.stopped,
            "distilled": self.distilled,
            "model or images": self.source_hash,
        }

    def _save(self) -> None:
        if self.directory is not None and self.accelerator.is_main_process:
            path = self.directory / "state.safetensors"
            kept = {"best": self.best, "before": self.before}
            save_state(path, self.network, self.optimizer.adam, self._state(), **kept)

    def _resume(self) -> None:
        path = None if self.directory is None else self.directory / "state.safetensors"
        if path is None or not path.exists():
            return
        state, kept = load_state(path, self.network, self.optimizer.adam)
        mine = self._state()
        for key in ("schedule", "model or images", "views"):
            if state.get(key, mine[key]) != mine[key]:
                raise InputError(
                    f"the checkpoint in {self.directory} belongs to another training ({key} "
                    "differ): use another directory, delete it, or start over with resume=False "
                    "(--no-resume)."
                )
        self.done, self.validations = state["done"], state["validations"]
        self.loss.area_weight = state["area_weight"]
        self.loss.smoothed_area = state["smoothed_area"]
        self.stopped, self.distilled = state["stopped"], state.get("distilled", {})
        self.best, self.before = kept["best"], kept["before"]
        if self.accelerator.is_main_process:  # later steps are taken, and logged, again
            log = path.with_name("log.jsonl")
            lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
            steps = [(line, _LOGGED.search(line)) for line in lines]
            lines = [f"{line}\n" for line, step in steps if step and int(step[1]) <= self.done]
            write_text(log, "".join(lines))

    def _log(self, row: dict[str, Any]) -> None:
        if self.directory is not None and self.accelerator.is_main_process:
            append_lines(self.directory / "log.jsonl", [json.dumps(row)])
