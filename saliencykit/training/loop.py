"""The training itself: one plain loop that runs on a CPU, on a GPU, and in several processes."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.class_scores import probability
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.objective import Objective, Trial
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.storage.atomic_files import append_lines
from saliencykit.terms.area import AREAS
from saliencykit.training.cache import Cache
from saliencykit.training.fit_checkpoint import load_state, save_state
from saliencykit.training.optimizer import Optimizer
from saliencykit.training.preview import save_preview
from saliencykit.training.schedule import FitStep, Schedule
from saliencykit.training.trials import composed_trial, late_trial
from saliencykit.training.validation import ValidationReport, other_labels, validate

if TYPE_CHECKING:
    from accelerate import Accelerator

_PULL = 0.04  # how fast the area's weight follows a wanted area: per step and relative error
_HELPER = 0.1  # weight of phase 1's loss in phase 2, where the rows are trained
_NOISE = 0.04  # of the gate's score, on some fifty pictures


@final
class Loop:
    """Trains a network by a plan.

    Args:
        network: Trained in place.
        black_box: Frozen, ready for many evaluations.
        partial_network: For late mixing, or None.
        cache: The training views.
        held_out: Images and labels that the gate looks at.
        plan: What to do.
        accelerator: Of several processes.
        folder: For checkpoints, the log and pictures; None: nowhere.
        about: What tells this model and these pictures from others: a checkpoint of others is
            refused.
        on_step: Called after each step.

    References:
        Dabkowski & Gal 2017, section 4.2 (fake classes, alternatives drawn for each edit); settings
        from our own trials.
    """

    def __init__(
        self,
        network: MaskingNetwork,
        black_box: BlackBox,
        partial_network: PartialNetwork | None,
        cache: Cache,
        held_out: tuple[Images, Labels],
        plan: Schedule,
        accelerator: "Accelerator",
        *,
        folder: Path | None = None,
        about: str = "",
        on_step: Callable[[FitStep], None] = lambda step: None,
    ) -> None:
        self.network, self.black_box, self.partial_network, self.cache, self.held_out = (
            network,
            black_box,
            partial_network,
            cache,
            held_out,
        )
        self.plan, self.accelerator, self.folder, self.on_step = plan, accelerator, folder, on_step
        self.about = about
        self.descent = Optimizer(network, plan, accelerator, folder)
        self.area_weight = next(
            (t.weight for t in plan.objective.terms if isinstance(t, AREAS)), 0.0
        )
        self.smoothed_area = math.nan
        self.done = 0
        self.gates: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.stopped = False

    def run(self, *, resume: bool) -> ValidationReport:
        """All steps, from the checkpoint if there is one.

        Returns:
            The gate's measurements of the final network.

        Raises:
            SaliencyKitError: The loss was not finite five times in a row, or the disk is full; the
                last checkpoint stays.
            InputError: The checkpoint in the folder is damaged or of another plan.
        """
        started = time.perf_counter()
        if resume:
            self._resume()
        self.descent.begin()
        while self.done < self.plan.steps and not self.stopped:
            step = self._step(self.done)
            self.done += 1
            step = replace(step, of=self.plan.steps, seconds=time.perf_counter() - started)
            self._log({"step": asdict(step)})
            self.on_step(step)
            if self.done == self.plan.warmup_steps:
                self._after_warm_up()
            look = (
                self.done > self.plan.warmup_steps
                and (self.done - self.plan.warmup_steps) % self.plan.gate_every == 0
            )
            if look and self.done < self.plan.steps:
                self.stopped = not self._look()
            if self.done % self.plan.save_every == 0:
                self._save()
        gate = self._gate()
        best = max((g["score"] for g in self.gates), default=-math.inf)
        if (
            self.best is not None and gate.score < best - 2 * _NOISE
        ):  # it fell apart after its best moment
            self.network.load_state_dict(self.best)
            gate = self._gate()
        self._log({"final": gate.as_facts()})
        self._save()
        return gate

    def _step(self, number: int) -> FitStep:
        plan, device = self.plan, self.black_box.device
        generator = Generator().manual_seed(
            (plan.seed * 1_000_003 + number * 1009 + self.accelerator.process_index) % 2**63
        )
        index = self._rows(number)
        labels = self.cache.labels[index].to(device)
        phase = plan.phase(number)
        self.descent.set_rate(number)
        self.network.train()
        images = self.cache.views.images(index).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.mixed_precision == "bf16"):
            features = self.cache.features(index, device)
            if features is None:
                with torch.set_grad_enabled(self.network.encoder.trained):
                    features = self.network.encoder.encode(self.black_box, images)
            if phase == "warm-up":
                loss = self._class_loss(features, labels, generator)
                if not self.descent.step(loss, number):
                    return FitStep(number + 1, phase, float("nan"))
                return FitStep(number + 1, phase, float(loss.detach()))
            count = round(len(index) * plan.fake_class_rate / (1 - plan.fake_class_rate))
            again = torch.arange(count, device=device) % len(index)
            everyone = torch.cat([torch.arange(len(index), device=device), again])
            asked = torch.cat(
                [
                    labels,
                    other_labels(labels[again].cpu(), self.black_box.num_classes, generator).to(
                        device
                    ),
                ]
            )
            real = torch.arange(len(everyone), device=device) < len(index)
            mask, _ = self.network(features.rows(everyone), asked)
            try:
                trial = self._trial(
                    phase, index, images, labels, everyone, real, mask.float(), generator
                )
                judged = self._objective()(trial)
            except ContractError as error:  # the box or a term answered NaN
                self.descent.step(torch.tensor(math.nan, device=device), number, str(error))
                return FitStep(number + 1, phase, math.nan)
            loss = judged.total.mean()
            if isinstance(self.network.selector, ClassFilters) and self.network.selector.own:
                loss = loss + _HELPER * self._class_loss(features, labels, generator)
        ok = self.descent.step(loss, number)
        area = float(mask[: len(index)].detach().mean())
        self._follow(area)
        with torch.no_grad():
            kept, dropped = (
                float(probability(z[: len(index)].float(), labels).mean())
                for z in (trial.preserved, trial.destroyed)
            )
        return FitStep(
            number + 1,
            phase,
            float(loss.detach()) if ok else float("nan"),
            plan.steps,
            {name: float(part.detach().mean()) for name, part in judged.parts.items()},
            area,
            float(mask[len(index) :].detach().mean()) if count else float("nan"),
            kept,
            dropped,
            self.area_weight,
        )

    def _trial(
        self,
        phase: str,
        index: Tensor,
        images: Images,
        labels: Labels,
        everyone: Tensor,
        real: Tensor,
        mask: Tensor,
        generator: Generator,
    ) -> Trial:
        fakes, true = self.plan.objective.fakes, labels[everyone]
        if phase == "mixing" and self.partial_network is not None and self.cache.mixing is not None:
            mixing = self.cache.mixing[index].to(self.black_box.device).float()[everyone]
            return late_trial(
                self.partial_network,
                mixing,
                images[everyone],
                true,
                real,
                mask,
                fakes=fakes,
                generator=generator,
            )
        return composed_trial(
            self.black_box,
            images[everyone],
            true,
            real,
            mask,
            alternative=self.plan.alternative,
            fakes=fakes,
            generator=generator,
        )

    def _class_loss(self, features: Features, labels: Labels, generator: Generator) -> Tensor:
        """Phase 1: the mean response of the own class up, of a fake class down, and of the own
        class above all others.
        """
        selector = self.network.selector
        logits = selector.class_logits(features.maps[-1]).float()
        fakes = other_labels(labels.cpu(), self.black_box.num_classes, generator).to(labels.device)
        own, fake = (logits.gather(1, which[:, None]).squeeze(1) for which in (labels, fakes))
        logistic = F.softplus(-own).mean() + F.softplus(fake).mean()
        return 0.5 * logistic + F.cross_entropy(logits, labels)

    def _objective(self) -> Objective:
        """The plan's, with the area weighted as it is at this step."""
        if self.plan.area is None:
            return self.plan.objective
        terms = [
            replace(t, weight=self.area_weight) if isinstance(t, AREAS) else t
            for t in self.plan.objective.terms
        ]
        return Objective(tuple(terms), self.plan.objective.fakes)

    def _follow(self, area: float) -> None:
        """Raise the weight of the area while masks are larger than wanted, lower it while they are
        smaller.
        """
        if self.plan.area is None or area != area:
            return
        if self.accelerator.num_processes > 1:
            area = float(
                self.accelerator.reduce(
                    torch.tensor(area, device=self.black_box.device), reduction="mean"
                )
            )
        old = self.smoothed_area
        self.smoothed_area = area if old != old else 0.9 * old + 0.1 * area
        error = self.smoothed_area / self.plan.area - 1
        self.area_weight = min(
            100.0, max(0.05, self.area_weight * math.exp(_PULL * max(-1.0, min(1.0, error))))
        )

    def _rows(self, number: int) -> Tensor:
        """This step's views of this process: an epoch is a permutation, fixed by the seed."""
        total, processes = len(self.cache.views), self.accelerator.num_processes
        size = max(2, self.plan.batch_size // processes)
        per_epoch = max(1, total // (size * processes))
        epoch, place = divmod(number, per_epoch)
        order = torch.randperm(
            total, generator=Generator().manual_seed((self.plan.seed * 7919 + epoch) % 2**63)
        )
        first = (place * processes + self.accelerator.process_index) * size
        return order[first : first + size] if first + size <= total else order[-size:]

    def _after_warm_up(self) -> None:
        """Rows that were trained have another scale: set the gate by what they answer to now."""
        selector = self.network.selector
        if isinstance(selector, ClassFilters):
            index = self._rows(self.done)
            images = self.cache.views.images(index).to(self.black_box.device)
            self.network.eval()
            with torch.no_grad():
                coarse = self.network.encoder.encode(self.black_box, images).maps[-1]
            selector.calibrate(coarse, self.cache.labels[index].to(coarse.device))
            self.descent.agree()

    def _gate(self) -> ValidationReport:
        self.descent.agree()
        return validate(
            self.network,
            self.black_box,
            *self.held_out,
            alternative=self.plan.alternative,
            seed=self.plan.seed,
        )

    def _look(self) -> bool:
        """Measure the held-out pictures; False: stop, it has not become better for long enough."""
        gate = self._gate()
        self.gates.append({"step": self.done} | gate.as_facts())
        self._log({"gate": self.gates[-1]})
        scores = [g["score"] for g in self.gates]
        if scores[-1] >= max(scores):
            self.best = {
                name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()
            }
        if self.folder is not None and self.accelerator.is_main_process:
            save_preview(
                self.network,
                self.black_box,
                *self.held_out,
                path=self.folder / f"masks-{self.done:06}.png",
            )
        worse = 0
        for score in reversed(scores):
            if score >= max(scores) - _NOISE:
                break
            worse += 1
        return worse < self.plan.patience

    def _facts(self) -> dict[str, Any]:
        plan = {key: repr(value) for key, value in asdict(self.plan).items()} | {
            "objective": repr(self.plan.objective)
        }
        plan["alternative"] = repr(self.plan.alternative)
        return {"plan": plan, "done": self.done, "area_weight": self.area_weight, "smoothed_area": self.smoothed_area,
                "gates": self.gates, "views": len(self.cache.views), "stopped": self.stopped,
                "model or pictures": self.about}  # fmt: skip

    def _save(self) -> None:
        if self.folder is not None and self.accelerator.is_main_process:
            save_state(
                self.folder / "state.safetensors",
                self.network,
                self.descent.optimizer,
                self._facts(),
                best=self.best,
            )

    def _resume(self) -> None:
        path = None if self.folder is None else self.folder / "state.safetensors"
        if path is None or not path.exists():
            return
        facts, self.best = load_state(path, self.network, self.descent.optimizer)
        mine = self._facts()
        for key in ("plan", "model or pictures", "views"):
            if facts.get(key, mine[key]) != mine[key]:
                raise InputError(
                    f"the checkpoint in {self.folder} belongs to another training ({key} differ): "
                    "use another folder, delete it, or begin again with resume=False "
                    "(--no-resume)."
                )
        self.done, self.area_weight, self.smoothed_area = (
            facts["done"],
            facts["area_weight"],
            facts["smoothed_area"],
        )
        self.gates, self.stopped = facts["gates"], facts["stopped"]

    def _log(self, row: dict[str, Any]) -> None:
        if self.folder is not None and self.accelerator.is_main_process:
            append_lines(self.folder / "log.jsonl", [json.dumps(row)])
