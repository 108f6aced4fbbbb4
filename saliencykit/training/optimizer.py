"""Adam with the learning rates of a schedule, in one process or in several."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from saliencykit.core.errors import SaliencyKitError
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.training.schedule import Schedule

if TYPE_CHECKING:
    from accelerate import Accelerator

_RAMP = 20  # steps up to the full learning rate
_LAST = 0.02  # fraction of the learning rate at the end of the cosine
_AFTER_OTHERS = 0.25  # fraction of the learning rate at which pixel steps start after other steps
# fractions of the learning rate: the selector's scale and threshold; its trained filters
_SCALE, _FILTERS = 0.15, 0.3
_WARMUP_LR = 2e-2  # of the filters in phase 1
_CLIP = 2.0  # largest norm of the gradient
_BAD = 5  # steps in a row without a finite loss before it stops


@final
class Optimizer:
    """Adam on the weights of a masking network.

    Gradients are taken with respect to these weights only; nothing accumulates in the classifier.

    Args:
        network: Trained in place.
        schedule: Gives the learning rates.
        accelerator: Of one or several processes.
        directory: Where the checkpoints are, for the error message.
    """

    def __init__(
        self,
        network: MaskingNetwork,
        schedule: Schedule,
        accelerator: "Accelerator",
        directory: Path | None = None,
    ) -> None:
        self.network, self.schedule = network, schedule
        self.accelerator, self.directory = accelerator, directory
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.shares = [
            _SCALE if "log_" in name else _FILTERS if name.startswith("selector.") else 1.0
            for name, _ in named
        ]
        groups = [{"params": [p], "weight_decay": 1e-5 if p.ndim > 1 else 0.0} for _, p in named]
        self.adam = torch.optim.Adam(groups, lr=schedule.lr)
        self.bad = 0

    def broadcast(self) -> None:
        """Give all processes the weights of the first: a user's own encoder may differ in each."""
        if self.accelerator.num_processes > 1:
            for tensor in self.network.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)

    def average_buffers(self) -> None:
        """Average the state over processes, whose batch norms saw different images."""
        if self.accelerator.num_processes > 1:
            for tensor in self.network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(self.accelerator.reduce(tensor.clone(), reduction="mean"))

    def set_rate(self, number: int) -> None:
        """Set the learning rates of step `number`, from 0: a short ramp and a cosine per phase."""
        phase, first, end = self.schedule.phase(number)
        progress = (number - first + 1) / (end - first)
        before = self.schedule.mixing_steps + self.schedule.distill_steps
        rate = self.schedule.lr * (_AFTER_OTHERS if phase == "pixels" and before else 1.0)
        cosine = _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * progress))
        rate *= min(1.0, (number - first + 1) / _RAMP) * cosine
        for group, share in zip(self.adam.param_groups, self.shares, strict=True):
            if phase != "warmup":
                group["lr"] = rate * share
            else:  # scale and threshold are set from statistics after the warmup
                group["lr"] = {_SCALE: 0.0, _FILTERS: rate / self.schedule.lr * _WARMUP_LR}.get(
                    share, rate
                )

    def step(self, loss: Tensor, number: int, reason: str = "its terms sum to inf or NaN.") -> bool:
        """Take one step, in every process or in none.

        Args:
            loss: A scalar.
            number: Of the step, from 0, for the message.
            reason: Why the loss is not finite, if the caller knows.

        Returns:
            False, and no step, if the loss or a gradient is not finite.

        Raises:
            SaliencyKitError: It was not finite five times in a row.
        """
        parameters = [p for group in self.adam.param_groups for p in group["params"]]
        finite = bool(torch.isfinite(loss.detach()))
        grads: list[Tensor | None] = [None] * len(parameters)
        if finite:
            grads = list(torch.autograd.grad(loss, parameters, allow_unused=True))
        if self.accelerator.num_processes > 1:
            finite = self._average(parameters, grads, finite)
        for parameter, grad in zip(parameters, grads, strict=True):
            # None where the loss does not reach: Adam would take a full step of weight decay alone
            parameter.grad = grad
        norm = nn.utils.clip_grad_norm_(parameters, _CLIP)
        finite = finite and bool(torch.isfinite(norm))
        if finite:
            self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.bad = 0 if finite else self.bad + 1
        if self.bad >= _BAD:
            where = f"; the last checkpoint is in {self.directory}" if self.directory else ""
            raise SaliencyKitError(
                f"the loss was not finite in {_BAD} steps in a row (up to step {number + 1})"
                f"{where}: {reason} Lower lr (it is {self.schedule.lr}), or look for images for "
                "which the model returns huge logits."
            )
        return finite

    def _average(
        self, parameters: list[nn.Parameter], grads: list[Tensor | None], finite: bool
    ) -> bool:
        """Average the gradients over processes, in place; were they finite in all of them?"""
        parts = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)
        ]
        flags = torch.tensor([float(finite)], device=parts[0].device, dtype=torch.float32)
        flat = self.accelerator.reduce(
            torch.cat([*(part.flatten() for part in parts), flags]), reduction="mean"
        )
        for i, part in enumerate(flat[:-1].split([p.numel() for p in parameters])):
            if grads[i] is not None:
                grads[i] = part.view_as(parameters[i])
        return bool(flat[-1] == 1.0)
