"""The tensors in what a module returns."""

from collections.abc import Mapping

from torch import Tensor


def tensors_in(output: object) -> list[Tensor]:
    """All tensors in a module's output, in order: a tensor, a dict, a tuple or an object with
    logits.
    """
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = tuple(output.values())
    elif not isinstance(output, tuple | list):
        output = (getattr(output, "logits", None),)
    return [tensor for part in output if part is not None for tensor in tensors_in(part)]
