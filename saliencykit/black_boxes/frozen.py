"""A frozen copy of a model for many evaluations, and the batch that suits it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_COMFORT = 32 * 2**20  # bytes; glibc gives larger blocks back after every layer, and each use faults its pages in again


def frozen_copy(model: nn.Module, images: Tensor) -> nn.Module | None:
    """A copy in eval mode without gradients, batch norms folded into the convolutions, in channels_last; None where it fails.

    The copy is checked against the model on `images`: where the answers differ by more than 1e-3 of their range it is not used.

    References:
        Folding: Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.
    """
    try:
        twin = copy.deepcopy(model).eval().requires_grad_(False)
        with torch.no_grad():
            twin = _folded(twin, images).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    except Exception:
        return None
    return twin


def _folded(twin: nn.Module, images: Tensor) -> nn.Module:
    wanted = _first_tensor(twin(images))
    try:
        from torch.fx.experimental.optimization import fuse

        folded: nn.Module = fuse(twin)
        got = _first_tensor(folded(images))
        if wanted is not None and got is not None and got.shape == wanted.shape:
            scale = (wanted.max() - wanted.min()).clamp_min(1e-6)
            if bool((got - wanted).abs().max() <= 1e-3 * scale):
                return folded.eval()
    except Exception:
        pass
    return twin


def comfortable_batch(model: nn.Module, images: Tensor) -> int:
    """How many images to give the model at once: on a CPU so many that the largest activation stays under 32 MB, else 64."""
    if images.device.type != "cpu":
        return 64
    largest = _Largest()
    with torch.no_grad(), largest:
        model(images)
    return max(1, min(32, _COMFORT // max(1, largest.bytes)))


class _Largest(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return out


def _first_tensor(answer: object) -> Tensor | None:
    if isinstance(answer, Tensor):
        return answer
    values = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, tuple | list) else ()
    return next((value for value in values if isinstance(value, Tensor)), None)
