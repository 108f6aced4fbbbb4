"""An optimized copy of a model, for many forward passes without gradients of its weights."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.networks.batch_norm_folding import NormFolding
from saliencykit.networks.direct_execution import without_checkpointing
from saliencykit.networks.lean_relu6 import replace_relu6
from saliencykit.networks.module_state import OperationMode, restored_rng_state
from saliencykit.networks.output_tensors import tensors_in
from saliencykit.networks.private_copy import private_copy, source_of
from saliencykit.networks.tolerance import same_answers

# glibc returns larger blocks to the system after every layer, and each use faults their pages in
CACHED_BLOCK_BYTES = 32 * 2**20


@final
@dataclass(frozen=True)
class OptimizedCopy:
    """What to evaluate many times: the copy (or the model itself where copying fails), and the
    batch size that suits the device.
    """

    model: nn.Module
    max_batch_size: int


def optimize(model: nn.Module, images: Tensor) -> OptimizedCopy:
    """A copy in eval mode without gradients, batch norms folded into convolutions, channels_last,
    with a ReLU6 that needs less memory in the backward pass.

    The folded copy must agree with a plain copy on two images, to 1e-3 of the range of the output,
    else the plain copy is used. Nothing is traced: the copy is the model's own Python code, so
    control flow, custom `__call__` methods and hooks work as they did. (One assumption: a
    convolution that fed a batch norm once always does.) The model is only read.

    Args:
        model: Any module that returns a tensor, or something that holds one.
        images: (B, C, H, W), examples of the model's input; the first two are used.

    Returns:
        The copy, and on a CPU the batch size whose largest activation stays under 32 MB; elsewhere
        at most 64, as memory allows.
    """
    second = images[1:2] if len(images) > 1 else images[:1].flip(-1) * 0.5
    probe = torch.cat([images[:1], second]).detach()
    with torch.inference_mode(False), torch.no_grad():
        probe = probe.clone() if probe.is_inference() else probe
        twin = _copied(model)
        if twin is None:
            return OptimizedCopy(model, _measured(private_copy(model), probe)[1])
        with restored_rng_state(source_of(model)):
            folding = NormFolding(twin)
            try:
                with folding:
                    expected, batch_size = _measured(twin, probe)
            # it may take one image at a time only; if it takes none, the query itself will say so
            except Exception:
                return OptimizedCopy(twin, 1)
            convolutions = sum(isinstance(module, nn.Conv2d) for module in twin.modules())
            if not folding and convolutions < 2:
                return OptimizedCopy(twin, batch_size)  # a transformer: nothing to gain
            replace_relu6(twin)
            for memory_format in (torch.channels_last, torch.contiguous_format):
                try:
                    if memory_format is torch.channels_last:
                        folding.fold()
                    twin.to(memory_format=memory_format)
                    output = _first_tensor(twin(probe * 1))
                # a `.view` that channels_last forbids, code that reads a batch norm's weights
                except Exception:
                    continue
                if _agree(output, expected):
                    return OptimizedCopy(twin, batch_size)
        del twin, folding  # never two copies at once
        return OptimizedCopy(_copied(model) or model, batch_size)


def _copied(model: nn.Module) -> nn.Module | None:
    """A copy with weights of its own, or None where there is no memory left for it."""
    try:
        return private_copy(model, clone="all")
    except Exception:
        return None


def _measured(model: nn.Module, probe: Tensor) -> tuple[Tensor | None, int]:
    """The model's output for the probe, and the batch size that suits the device."""
    sizes = _ActivationSizes()
    with sizes, without_checkpointing():
        output = model(probe * 1)
    largest, total = max(1, sizes.largest // len(probe)), max(1, sizes.total // len(probe))
    if probe.device.type == "cpu":
        # glibc sets its threshold by the largest block ever freed: freeing one of 32 MB, never
        # touched, stops it from returning smaller activations to the system after every layer (up
        # to 3000 page faults an image, a third of MobileNetV2's time)
        torch.empty(CACHED_BLOCK_BYTES - 2**16, dtype=torch.uint8, device="cpu")
        return _first_tensor(output), max(1, min(32, CACHED_BLOCK_BYTES // largest))
    on_cuda = probe.device.type == "cuda"
    free = torch.cuda.mem_get_info(probe.device)[0] if on_cuda else 4 * 2**30
    return _first_tensor(output), max(1, min(64, free // 2 // total))


def _agree(output: Tensor | None, expected: Tensor | None) -> bool:
    if output is None or expected is None:
        return False
    return same_answers(output, expected, expected.dtype)


@final
class _ActivationSizes(OperationMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                size = tensor.numel() * tensor.element_size()
                self.largest, self.total = max(self.largest, size), self.total + size
        return out


def _first_tensor(output: object) -> Tensor | None:
    return next(iter(tensors_in(output)), None)
