"""The rules of excitation backprop: how an operation distributes the probability of its output over
its inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

_ZERO = 1e-30  # a sum of excitations below it counts as 0; dividing by more cannot overflow


@final
class RuleFunction(torch.autograd.Function):
    """An operation whose backward step is a rule; its arguments are the rule and the input maps."""

    @staticmethod
    def forward(ctx: Any, rule: "ExcitationRule", *maps: Tensor) -> Tensor:
        """The operation's own output."""
        ctx.rule = rule
        ctx.save_for_backward(*maps)
        return rule.operation(*maps)

    @staticmethod
    def backward(ctx: Any, mass: Tensor) -> Any:
        """The share of each input map."""
        with torch.no_grad():
            return None, *ctx.rule.shares(mass, *ctx.saved_tensors)


@dataclass
class ExcitationRule(ABC):
    """How an operation distributes the probability of its output over its input maps.

    Args:
        operation: A function of these maps.
    """

    operation: Callable[..., Tensor]

    @abstractmethod
    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """The share of each input map, in its shape.

        Args:
            mass: The probability of each unit of the output.
            maps: The inputs.
        """


@final
@dataclass
class OneToOne(ExcitationRule):
    """Each unit has one input, which gets everything."""

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Everything, summed over broadcast dimensions."""
        return (mass.sum_to_size(maps[0].shape),)


@final
@dataclass
class Linear(ExcitationRule):
    """Equation 3: in proportion to how much each input excites the unit.

    Args:
        operation: The function.
        linear: `linear(x, w)`, the function without its bias.
        weight: `w`; None where all weights are equal and positive (a mean).
        sign: -1 for the dual unit, whose weights are negated.
        transposed: Is it a transposed convolution, with its channels in the other order?
    """

    linear: Callable[[Tensor, Tensor | None], Tensor]
    weight: Tensor | None
    sign: int = 1
    transposed: bool = False

    def fold(self, scale: Tensor, x: Tensor) -> None:
        """Fold the scale of the norm of this layer's output x into the weights. Only its sign
        counts, as shares are relative.
        """
        weight = self.weight
        if weight is None or self.transposed or len(weight) != len(scale):
            return
        if (weight.ndim != 2 or x.ndim == 2) and bool((scale < 0).any()):
            signs = torch.where(scale < 0, -1, 1).to(weight)
            self.weight = weight * signs.view(-1, *[1] * (weight.ndim - 1))

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Positive inputs times positive weights; evenly where nothing excites the unit."""
        (x,) = maps
        dtype = _precise(x)
        weight = None if self.weight is None else self.weight.to(dtype)
        if weight is not None:  # in one pass: the first linear layer of VGG has 400 MB
            weight = weight.clamp_min(0) if self.sign == 1 else weight.clamp_max(0).neg_()
        share, idle_mass = self._proportional(mass.to(dtype), x.to(dtype).clamp_min(0), weight)
        if idle_mass is not None:
            ones = None if weight is None else torch.ones_like(weight)
            even, _ = self._proportional(idle_mass, torch.ones_like(x, dtype=dtype), ones)
            share = share + even
        return (share.to(x.dtype),)

    def _proportional(
        self, mass: Tensor, x: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The share of the inputs, and the mass of units that nothing excites, if there is any."""
        with torch.enable_grad():
            x.requires_grad_()
            excitation = self.linear(x, weight)
        total, idle_mass = excitation.detach(), None
        per_excitation = mass / total
        if bool(total.amin() <= _ZERO):
            idle = total <= _ZERO
            per_excitation.masked_fill_(idle, 0)
            idle_mass = mass.masked_fill(~idle, 0)
        (share,) = torch.autograd.grad(excitation, x, per_excitation)
        remains = idle_mass is not None and bool(idle_mass.sum() > 0)
        return share * x.detach(), idle_mass if remains else None


@final
@dataclass
class Addition(ExcitationRule):
    """Two inputs with weight 1."""

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """In proportion to the positive parts, half each where there are none."""
        first, second = (m.to(_precise(m)).clamp_min(0).expand(mass.shape) for m in maps)
        total = first + second
        share = torch.where(total > _ZERO, first / total.clamp_min(_ZERO), 0.5) * mass
        return share.sum_to_size(maps[0].shape), (mass - share).sum_to_size(maps[1].shape)


@final
@dataclass
class Half(ExcitationRule):
    """A product of two maps of one size."""

    def shares(self, mass: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """Half each."""
        return mass / 2, mass / 2


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
