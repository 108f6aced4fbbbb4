"""Recording the calls of a classifier's layers during one forward pass."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images, Logits
from saliencykit.networks.module_layers import eager, module_of


@final
@dataclass(frozen=True)
class ModuleCall:
    """One call of a module: its dotted name, the module, its first tensor input and its output."""

    name: str
    module: nn.Module
    input: Tensor | None
    output: Tensor


def record_calls(black_box: BlackBox, images: Images) -> tuple[Logits, list[ModuleCall]]:
    """Query a black box once, and record the modules of its model that are called exactly once.

    TorchScript modules take no hooks; they are left out with all their children.

    Returns:
        The logits, and the calls in the order in which they ended.
    """
    calls: list[ModuleCall] = []
    handles = []

    def recorder(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                first = args[0] if args and isinstance(args[0], Tensor) else None
                calls.append(ModuleCall(name, module, first, output))

        return hook

    try:
        for name, module in module_of(black_box).named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_hook(recorder(name)))
        with eager(black_box):
            logits = black_box(images)
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(call.name for call in calls)
    return logits, [call for call in calls if times[call.name] == 1]


def one_call(black_box: BlackBox, images: Images, most: int) -> Images:
    """The first `most` images, or fewer where one call of the model takes fewer.

    A model that is being recorded must be called only once.
    """
    return images[: min(most, black_box.max_batch_size or most)]
