"""Is this the model that a masker was trained for? A hash of its weights tells."""

import hashlib
from collections.abc import Iterator

import torch

from saliencykit.core.black_box import BlackBox


def fingerprint(black_box: BlackBox) -> str | None:
    """A hash of the module's floating-point tensors in layer order; None where there is no module.

    Values are rounded to half precision and names are not hashed, so a network's fp16 file and its
    torchvision and timm forms agree.

    Args:
        black_box: Any black box; an optimized copy has the fingerprint of the user's own model.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> fingerprint(TorchBlackBox(model)) == fingerprint(TorchBlackBox(model.half()))
        True
    """
    if black_box.source_module is None:
        return None
    digest = hashlib.sha256()
    for values in _values(black_box):
        digest.update(values.detach().to(device="cpu", dtype=torch.float16).numpy().tobytes())
    return digest.hexdigest()[:32]


def count_values(black_box: BlackBox) -> int:
    """How many numbers `fingerprint` hashes: a quick way to see that two models differ.

    Args:
        black_box: Any black box; 0 for one without a module.
    """
    return sum(values.numel() for values in _values(black_box))


def _values(black_box: BlackBox) -> list[torch.Tensor]:
    module = black_box.source_module
    state = {} if module is None else module.state_dict()
    tensors = [tensor for value in state.values() for tensor in _tensors_in(value)]
    return [values for values in tensors if values.is_floating_point() and values.numel()]


def _tensors_in(value: object) -> Iterator[torch.Tensor]:
    """The tensors of an entry of a state dict; those of int8 modules are also packed in tuples."""
    if isinstance(value, torch.Tensor):
        yield value.dequantize() if value.is_quantized else value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors_in(part)
