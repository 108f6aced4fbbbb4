"""Folding batch norms into the convolutions before them.

References:
    Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.
"""

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from saliencykit.networks.module_state import OperationMode, has_hooks

# classes that are linear in `.weight`; weight-standardized convolutions are not
_CONVOLUTIONS = ("Conv2d", "Conv2dSame")
_NORMS = ("BatchNorm2d", "BatchNormAct2d", "FrozenBatchNorm2d", "FrozenBatchNormAct2d")
_STATISTICS = ("running_mean", "running_var", "weight", "bias")


@final
@dataclass(eq=False)
class _Pair:
    """A convolution, and the norm that takes its output; None so far.

    Attributes:
        shared: Does something else read or write the memory of that output?
    """

    convolution: nn.Conv2d
    output: "weakref.ref[Tensor]"
    norm: nn.Module | None = None
    shared: bool = False


@final
class NormFolding(OperationMode):  # type: ignore[no-untyped-call]
    """Finds the convolutions that feed nothing but a batch norm, and folds these.

    As a context manager it watches one forward pass: every operation that reads or writes the
    memory of a convolution's output (a view of it, an activation in place, a residual) other than
    the norm's rules the pair out, whatever the values were.

    Args:
        model: A copy that we own; it gets hooks until the end of the `with` block.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # by storage; a weak reference keeps its address from being used again, and no memory
        self._pairs: dict[StorageWeakRef, _Pair] = {}
        self._calls: Counter[nn.Module] = Counter()
        self._normalized: _Pair | None = None  # the one whose norm is running
        self._handles = []
        for module in model.modules():
            name = type(module).__name__
            if isinstance(module, nn.Conv2d) and name in _CONVOLUTIONS and _can_scale(module):
                self._handles.append(module.register_forward_hook(self._after_convolution))
            elif (
                name in _NORMS
                and isinstance(getattr(module, "running_mean", None), Tensor)
                and not has_hooks(module)
            ):
                self._handles.append(module.register_forward_pre_hook(self._before_norm))
                self._handles.append(module.register_forward_hook(self._after_norm))

    def __exit__(self, *error: Any) -> None:
        """Remove the hooks."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation, and note whose memory it takes."""
        for value in tree_leaves((args, kwargs)):
            pair = self._pair_of(value)
            if pair is not None and pair is not self._normalized:
                pair.shared = True
        return func(*args, **(kwargs or {}))

    def _pair_of(self, value: Any) -> _Pair | None:
        has_storage = isinstance(value, Tensor) and value.layout is torch.strided
        return self._pairs.get(_storage(value)) if has_storage else None

    def _after_convolution(self, convolution: nn.Module, args: Any, output: Any) -> None:
        self._calls[convolution] += 1
        if isinstance(convolution, nn.Conv2d) and isinstance(output, Tensor):
            pair = _Pair(convolution, weakref.ref(output))
            self._pairs[_storage(output)] = pair

    def _before_norm(self, norm: nn.Module, args: Any) -> None:
        self._calls[norm] += 1
        pair = self._pair_of(args[0]) if args else None
        if pair is not None and pair.norm is None and args[0] is pair.output():
            pair.norm, self._normalized = norm, pair

    def _after_norm(self, *_: Any) -> None:
        self._normalized = None

    @property
    def _foldable(self) -> list[tuple[nn.Conv2d, nn.Module]]:
        pairs = [(each.convolution, each.norm) for each in self._pairs.values() if not each.shared]
        return [
            (convolution, norm)
            for convolution, norm in pairs
            if norm is not None and self._calls[convolution] == self._calls[norm] == 1
        ]

    def __bool__(self) -> bool:
        """Is there a batch norm to fold?"""
        return bool(self._foldable)

    def fold(self) -> None:
        """Fold each batch norm; what is left of it is its own dropout and activation, if any."""
        for convolution, norm in self._foldable:
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


def _storage(value: Tensor) -> StorageWeakRef:
    return StorageWeakRef(value.untyped_storage())  # type: ignore[no-untyped-call]


def _can_scale(convolution: nn.Conv2d) -> bool:
    """Is the weight the layer's own parameter (not made by a weight norm), in a precision that
    scaling keeps, and does no hook see the output or its gradient?
    """
    own = convolution._parameters.get("weight") is not None
    precise = own and convolution.weight.dtype in (torch.float32, torch.float64)
    return precise and not has_hooks(convolution)
