"""Descent: steps of the optimiser, in one process or in several, and what to do where a loss is not
finite.
"""

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

_RAMP = 20  # steps from nothing to the full learning rate
_LAST = 0.02  # of the learning rate, at the end of the cosine
_AFTER_MIXING = 0.25  # of the learning rate, where composed steps begin after mixed ones
# of the learning rate: the gate's scale and threshold; rows that are trained
_GATE, _ROWS = (
    0.15,
    0.3,
)
_WARM = 2e-2  # learning rate of the rows in phase 1
_CLIP = 2.0  # largest norm of the gradient
_BAD = 5  # steps in a row without a finite loss until it stops


@final
class Optimizer:
    """Adam on the weights of a masking network, with the learning rates of a plan.

    Gradients are taken with respect to these weights alone; nothing is ever accumulated in a model
    that is borrowed.

    Args:
        network: Trained in place.
        plan: For the learning rates.
        accelerator: Of several processes.
        folder: Where the checkpoints are, for the message.
    """

    def __init__(
        self,
        network: MaskingNetwork,
        plan: Schedule,
        accelerator: "Accelerator",
        folder: Path | None = None,
    ) -> None:
        self.network, self.plan, self.accelerator, self.folder = network, plan, accelerator, folder
        self.shares: list[float] = []
        groups = []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                self.shares.append(
                    _GATE if "log_" in name else _ROWS if name.startswith("selector.") else 1.0
                )
                groups.append(
                    {"params": [parameter], "weight_decay": 1e-5 if parameter.ndim > 1 else 0.0}
                )
        self.optimizer = torch.optim.Adam(groups, lr=plan.lr)
        self.bad = 0

    def begin(self) -> None:
        """All processes begin with the weights of the first: an encoder that the user made may have
        other ones in each.
        """
        if self.accelerator.num_processes > 1:
            for tensor in self.network.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)

    def agree(self) -> None:
        """The mean over processes of all that is stored: batch norms and the gate's statistics saw
        other pictures in each.
        """
        if self.accelerator.num_processes > 1:
            for tensor in self.network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(self.accelerator.reduce(tensor.clone(), reduction="mean"))

    def set_rate(self, number: int) -> None:
        """The learning rates of step `number`, from 0: a short ramp and a cosine in every phase."""
        plan = self.plan
        ends = {
            "warm-up": plan.warmup_steps,
            "mixing": plan.warmup_steps + plan.mixing,
            "composing": plan.steps,
        }
        phase = plan.phase(number)
        begin = {
            "warm-up": 0,
            "mixing": plan.warmup_steps,
            "composing": plan.warmup_steps + plan.mixing,
        }[phase]
        through = (number - begin + 1) / (ends[phase] - begin)
        rate = plan.lr * (_AFTER_MIXING if phase == "composing" and plan.mixing else 1.0)
        rate *= min(1.0, (number - begin + 1) / _RAMP) * (
            _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * through))
        )
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            if phase != "warm-up":
                group["lr"] = rate * share
            else:  # scale and threshold are set from statistics when the rows are ready
                group["lr"] = {_GATE: 0.0, _ROWS: rate / plan.lr * _WARM}.get(share, rate)

    def step(
        self, loss: Tensor, number: int, reason: str = "its terms add up to infinity or NaN."
    ) -> bool:
        """One step; False, and no step in any process, if the loss or a gradient is not finite.

        Args:
            loss: A scalar.
            number: Of the step, from 0, for the message.
            reason: Why the loss is not finite, if somebody knows.

        Raises:
            SaliencyKitError: It was not finite five times in a row.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        finite = bool(torch.isfinite(loss.detach()))
        grads: list[Tensor | None] = [None] * len(parameters)
        if finite:
            grads = list(torch.autograd.grad(loss, parameters, allow_unused=True))
        if self.accelerator.num_processes > 1:
            parts = [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, grads, strict=True)
            ]
            flat = torch.cat(
                [part.flatten() for part in parts]
                + [torch.tensor([float(finite)], device=loss.device)]
            )
            flat = self.accelerator.reduce(flat, reduction="mean")
            finite = bool(flat[-1] == 1.0)
            parts = [
                part.view_as(p)
                for p, part in zip(
                    parameters, flat[:-1].split([p.numel() for p in parameters]), strict=True
                )
            ]
            grads = [None if g is None else part for g, part in zip(grads, parts, strict=True)]
        for parameter, grad in zip(parameters, grads, strict=True):
            # None where the loss does not reach: Adam would make a whole step of the weight decay
            # alone
            parameter.grad = grad
        norm = nn.utils.clip_grad_norm_(parameters, _CLIP)
        finite = finite and bool(torch.isfinite(norm))
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.bad = 0 if finite else self.bad + 1
        if self.bad >= _BAD:
            where = f"; the last checkpoint is in {self.folder}" if self.folder else ""
            raise SaliencyKitError(
                f"the loss was not finite in {_BAD} steps in a row (up to step "
                f"{number + 1}){where}: {reason} Lower lr (it is {self.plan.lr}), or look for "
                "pictures on which the model answers with huge logits."
            )
        return finite
