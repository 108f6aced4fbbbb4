"""Folding batch norms into the convolutions before them.

References:
    Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.
"""

from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn

# classes that are linear in `.weight`; weight-standardized convolutions are not
_CONVOLUTIONS = ("Conv2d", "Conv2dSame")
_NORMS = ("BatchNorm2d", "BatchNormAct2d", "FrozenBatchNorm2d", "FrozenBatchNormAct2d")
_STATISTICS = ("running_mean", "running_var", "weight", "bias")


@final
class NormFolding:
    """Records in one forward pass which convolutions feed a batch norm, and folds these.

    Args:
        model: A copy that we own; it gets hooks until `remove_hooks`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._pairs: list[tuple[nn.Conv2d, nn.Module]] = []
        self._calls: dict[nn.Module, int] = {}
        self._last: tuple[nn.Conv2d, Tensor] | None = None
        self._handles = []
        for module in model.modules():
            name = type(module).__name__
            if isinstance(module, nn.Conv2d) and name in _CONVOLUTIONS and _can_scale(module):
                self._handles.append(module.register_forward_hook(self._after_convolution))
            elif (
                name in _NORMS
                and isinstance(getattr(module, "running_mean", None), Tensor)
                and not _has_hooks(module)
            ):
                self._handles.append(module.register_forward_pre_hook(self._before_norm))

    def _after_convolution(self, convolution: nn.Module, args: Any, output: Any) -> None:
        assert isinstance(convolution, nn.Conv2d)
        self._calls[convolution] = self._calls.get(convolution, 0) + 1
        self._last = (convolution, output) if isinstance(output, Tensor) else None

    def _before_norm(self, norm: nn.Module, args: Any) -> None:
        self._calls[norm] = self._calls.get(norm, 0) + 1
        if self._last is not None and args and args[0] is self._last[1]:
            self._pairs.append((self._last[0], norm))
        self._last = None

    def __bool__(self) -> bool:
        """Is there a batch norm to fold?"""
        return bool(self._pairs)

    def remove_hooks(self) -> None:
        """Remove the hooks and release activations."""
        self._last = None
        for handle in self._handles:
            handle.remove()

    def fold(self) -> None:
        """Fold each batch norm; what is left of it is its own dropout and activation, if any."""
        for convolution, norm in self._pairs:
            if self._calls[convolution] != 1 or self._calls[norm] != 1:
                continue
            mean, var, weight, shift = (
                cast("Tensor | None", getattr(norm, key)) for key in _STATISTICS
            )
            assert mean is not None
            assert var is not None
            scale = torch.rsqrt(var + cast(float, norm.eps)) * (1 if weight is None else weight)
            before = 0 if convolution.bias is None else convolution.bias
            bias = (before - mean) * scale + (0 if shift is None else shift)
            scaled = convolution.weight * scale.view(-1, 1, 1, 1)
            convolution.weight = nn.Parameter(scaled, requires_grad=False)
            convolution.bias = nn.Parameter(bias, requires_grad=False)
            parts = (getattr(norm, "drop", None), getattr(norm, "act", None))
            norm.forward = _Chain([part for part in parts if isinstance(part, nn.Module)])


@final
@dataclass(frozen=True)
class _Chain:
    """The forward pass of a folded batch norm."""

    modules: list[nn.Module]

    def __call__(self, x: Tensor) -> Tensor:
        for module in self.modules:
            x = module(x)
        return x


def _can_scale(convolution: nn.Conv2d) -> bool:
    """Is the weight the layer's own parameter (not made by a weight norm), in a precision that
    scaling keeps, and does no hook see the output?
    """
    own = convolution._parameters.get("weight") is not None
    precise = own and convolution.weight.dtype in (torch.float32, torch.float64)
    return precise and not convolution._forward_hooks


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)
