"""StepLoss: what one step of training minimizes, on this process's share of the views."""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.objective import Objective, Trial
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.terms.area import AREAS
from saliencykit.training.absent_labels import has_fakes, other_labels
from saliencykit.training.cache import Cache
from saliencykit.training.schedule import FitStep, Phase, Schedule
from saliencykit.training.trials import feature_mixing_trial, pixel_trial

if TYPE_CHECKING:
    from accelerate import Accelerator

_STEERING = 0.04  # change of the area's weight per step and relative error of the area
_HELPER = 0.1  # weight of phase 1's loss in phase 2, where the filters are trained


@final
@dataclass(eq=False)
class StepLoss:
    """The loss of one step, from views of the images and random classes that they do not show.

    Args:
        network: Is trained.
        black_box: Frozen, optimized for many evaluations.
        partial_network: The classifier from the split layer on, for feature mixing; or None.
        cache: The training views.
        schedule: What to do.
        accelerator: Of one or several processes.

    Attributes:
        area_weight: The weight of the area, which a target area steers.
        smoothed_area: The mean area of the last steps; NaN before the first.
    """

    network: MaskingNetwork
    black_box: BlackBox
    partial_network: PartialNetwork | None
    cache: Cache
    schedule: Schedule
    accelerator: "Accelerator"
    area_weight: float = field(init=False)
    smoothed_area: float = math.nan

    def __post_init__(self) -> None:
        """Start with the weight of the objective."""
        weights = (t.weight for t in self.schedule.objective.terms if isinstance(t, AREAS))
        self.area_weight = next(weights, 0.0)

    def __call__(self, number: int, phase: Phase, generator: Generator) -> tuple[Tensor, FitStep]:
        """The loss of a step, and what happens in it.

        Args:
            number: The step, from 0.
            phase: One that learns from the classifier: not distillation.
            generator: Of this step alone.

        Raises:
            ContractError: The classifier or a term returned NaN.
        """
        device, index = self.black_box.device, self.view_indices(number)
        labels = self.cache.labels[index].to(device)
        images = self.cache.views.images(index).to(device)
        features = self._features(index, images)
        if phase == "warmup":
            loss = self._class_loss(features, index, generator)
            return loss, FitStep(number + 1, phase, float(loss.detach()))
        rate = self.schedule.fake_class_rate if has_fakes(self.black_box) else 0.0
        count = round(len(index) * rate / (1 - rate))
        again = torch.arange(count, device=device) % len(index)
        rows = torch.cat([torch.arange(len(index), device=device), again])
        fakes = self._fakes(index[again.cpu()], generator)
        mask, _ = self.network(features.rows(rows), torch.cat([labels, fakes.to(device)]))
        real = torch.arange(len(rows), device=device) < len(index)
        given = (index[rows.cpu()], images[rows], labels[rows], real, mask)
        trial = self._trial(phase, *given, generator)
        scored = self._objective()(trial)
        loss = scored.total.mean()
        if isinstance(self.network.selector, ClassFilters) and self.network.selector.trained:
            loss = loss + _HELPER * self._class_loss(features, index, generator)
        return loss, FitStep(
            number=number + 1,
            phase=phase,
            loss=float(loss.detach()),
            parts={name: float(part.detach().mean()) for name, part in scored.parts.items()},
            area=float(mask[: len(index)].detach().mean()),
            fake_area=float(mask[len(index) :].detach().mean()) if count else math.nan,
            kept=float(trial.kept[: len(index)].detach().float().mean()),
            dropped=float(trial.dropped[: len(index)].detach().float().mean()),
        )

    def view_indices(self, number: int) -> Tensor:
        """This process's views of a step: an epoch is a permutation, fixed by the seed."""
        total, processes = len(self.cache.views), self.accelerator.num_processes
        size = max(2, self.schedule.batch_size // processes)
        epoch, place = divmod(number, max(1, total // (size * processes)))
        generator = Generator().manual_seed((self.schedule.seed * 7919 + epoch) % 2**63)
        order = torch.randperm(total, generator=generator, device="cpu")
        first = (place * processes + self.accelerator.process_index) * size
        return order[first : first + size] if first + size <= total else order[-size:]

    def steer_area(self, area: float) -> None:
        """Raise the area's weight while masks are larger than the target, else lower it."""
        if self.schedule.area is None or math.isnan(area):
            return
        if self.accelerator.num_processes > 1:
            local = torch.tensor(area, device=self.black_box.device, dtype=torch.float32)
            area = float(self.accelerator.reduce(local, reduction="mean"))
        old = self.smoothed_area
        self.smoothed_area = area if math.isnan(old) else 0.9 * old + 0.1 * area
        error = max(-1.0, min(1.0, self.smoothed_area / self.schedule.area - 1))
        self.area_weight = min(100.0, max(0.05, self.area_weight * math.exp(_STEERING * error)))

    def calibrate_selector(self, number: int) -> None:
        """Trained filters have another scale: set the selector's by their current responses."""
        selector = self.network.selector
        if isinstance(selector, ClassFilters):
            index = self.view_indices(number)
            images = self.cache.views.images(index).to(self.black_box.device)
            self.network.eval()
            with torch.no_grad():
                coarse = self.network.encoder.encode(self.black_box, images).maps[-1]
            selector.calibrate(coarse, self.cache.labels[index].to(coarse.device))

    def _features(self, views: Tensor, images: Images) -> Features:
        """The encoder's features of these views: cached ones if there are any."""
        cached = self.cache.features(views, self.black_box.device)
        if cached is not None:
            return cached
        with torch.set_grad_enabled(self.network.encoder.trained):
            return self.network.encoder.encode(self.black_box, images)

    def _trial(
        self,
        phase: Phase,
        views: Tensor,
        images: Images,
        labels: Labels,
        real: Tensor,
        mask: Tensor,
        generator: Generator,
    ) -> Trial:
        fakes, cached = self.schedule.objective.fakes, self.cache.mixing
        given = (images, labels, real, mask.float())
        if phase == "feature-mixing" and self.partial_network is not None and cached is not None:
            features = cached[views].to(self.black_box.device).float()
            mixed = (self.partial_network, features, *given)
            return feature_mixing_trial(
                *mixed, output=self.black_box.output, fakes=fakes, generator=generator
            )
        fill = self.schedule.alternative
        return pixel_trial(
            self.black_box, *given, alternative=fill, fakes=fakes, generator=generator
        )

    def _fakes(self, index: Tensor, generator: Generator) -> Labels:
        """A label for each view that is not in it, on the CPU."""
        labels, absent = self.cache.labels[index], self.cache.absent
        some = None if absent is None else absent[index]
        return other_labels(labels, self.black_box.num_classes, generator, some)

    def _class_loss(self, features: Features, index: Tensor, generator: Generator) -> Tensor:
        """Loss of phase 1: the response to the label up, to an absent class down, and the label's
        above all others where they exclude each other. Scores are never absent: 0.
        """
        logits = self.network.selector.class_logits(features.maps[-1]).float()
        if not has_fakes(self.black_box):
            return 0.0 * logits.sum()
        labels = self.cache.labels[index].to(logits.device)
        fakes = self._fakes(index, generator).to(logits.device)
        own, fake = (logits.gather(1, which[:, None]).squeeze(1) for which in (labels, fakes))
        logistic = F.softplus(-own).mean() + F.softplus(fake).mean()
        exclusive = self.black_box.output == "softmax"
        return 0.5 * logistic + (F.cross_entropy(logits, labels) if exclusive else 0.0)

    def _objective(self) -> Objective:
        """The schedule's objective with the current weight of the area."""
        objective = self.schedule.objective
        if self.schedule.area is None:
            return objective
        terms = (
            replace(t, weight=self.area_weight) if isinstance(t, AREAS) else t
            for t in objective.terms
        )
        return Objective(tuple(terms), objective.fakes)
