"""Fingerprint: is this the model that a masker was trained for?"""

import hashlib

import torch
from torch import nn

from saliencykit.core.black_box import BlackBox


def fingerprint(black_box: BlackBox) -> str | None:
    """A hash over the tensor values of a box's module in layer order, or None where it shows no
    module.

    Values are rounded to half precision and counters left out, so that key names, fp16 files and
    the torchvision or timm form of one network agree.

    Args:
        black_box: Any box; a frozen copy has the fingerprint of the user's own model.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> same = nn.ModuleDict({"other": model})
        >>> fingerprint(TorchBlackBox(model)) == fingerprint(TorchBlackBox(model.half()))
        True
    """
    if black_box.source_module is None:
        return None
    digest = hashlib.sha256()
    for values in _values(black_box.source_module):
        digest.update(values.detach().to(device="cpu", dtype=torch.float16).numpy().tobytes())
    return digest.hexdigest()[:32]


def count_values(black_box: BlackBox) -> int:
    """How many numbers the fingerprint is taken over: a quick way to see that two models differ.

    Args:
        black_box: Any box; 0 for one that shows no module.
    """
    return (
        0
        if black_box.source_module is None
        else sum(values.numel() for values in _values(black_box.source_module))
    )


def _values(module: nn.Module) -> list[torch.Tensor]:
    return [
        tensor
        for tensor in module.state_dict().values()
        if tensor.is_floating_point() and tensor.numel()
    ]
