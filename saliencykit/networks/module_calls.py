"""Recording the calls of a classifier's layers during one forward pass."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images, Logits
from saliencykit.networks.forward_hooks import hooked


@final
@dataclass(frozen=True)
class ModuleCall:
    """One call of a module: its dotted name, the module, its first tensor input and its output;
    which of the module's calls it is, from 0, and how many there are.
    """

    name: str
    module: nn.Module
    input: Tensor | None
    output: Tensor
    index: int = 0
    times: int = 1


def record_calls(
    black_box: BlackBox, images: Images, *, repeated: bool = False
) -> tuple[Logits, list[ModuleCall]]:
    """Query a black box once, and record the modules of its model that are called exactly once.

    TorchScript modules take no hooks; they are left out with all their children.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W).
        repeated: Also record modules that are called several times, as a shared ReLU.

    Returns:
        The logits, and the calls in the order in which they ended.
    """
    calls: list[ModuleCall] = []

    def recorder(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                first = args[0] if args and isinstance(args[0], Tensor) else None
                calls.append(ModuleCall(name, module, first, output))

        return hook

    with hooked(black_box, None, recorder) as own:
        logits = own(images)
    times, index = Counter(call.name for call in calls), Counter[str]()
    for number, call in enumerate(calls):
        calls[number] = replace(call, index=index[call.name], times=times[call.name])
        index[call.name] += 1
    return logits, [call for call in calls if repeated or call.times == 1]


def one_call(black_box: BlackBox, images: Images, most: int) -> Images:
    """The first `most` images, or fewer where one call of the model takes fewer.

    A model that is being recorded must be called only once.
    """
    return images[: min(most, black_box.max_batch_size or most)]
