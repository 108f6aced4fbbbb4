"""Whatever a user calls a model, as a black box."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from torch import nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.timm import wrap_timm
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.black_boxes.torchvision import wrap_torchvision
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks.module_state import unwrap


def wrap(model: object) -> BlackBox | None:
    """A BlackBox around a torch module, a function on numpy arrays or a surrogate's file, or None
    for anything else.

    Models of timm and torchvision bring their pixel statistics, input size and class names, also
    inside `torch.compile` and DataParallel; for any other module nothing is guessed: it takes
    tensors until somebody says `TorchBlackBox(model, mean=...)`.

    Args:
        model: Whatever was given to `explain`.

    Raises:
        InputError: A class was given instead of an object, or a file holds no surrogate.

    Example:
        >>> wrap(nn.Flatten())
        TorchBlackBox(Flatten, size=None, outputs='logits')
        >>> wrap(3) is None
        True
    """
    if isinstance(model, str | PathLike) and str(model).endswith(".safetensors"):
        from saliencykit.black_boxes.surrogate_file import load_surrogate

        return load_surrogate(Path(model).expanduser())
    if isinstance(model, BlackBoxModule):
        return model.black_box
    if isinstance(model, nn.Module):
        own = unwrap(model)
        black_box = wrap_timm(own) or wrap_torchvision(own) or TorchBlackBox(own)
        return black_box if own is model else replace(black_box, model=model)
    if isinstance(model, type):
        raise InputError(
            f"{model.__name__} is a class; make an object of it: explain({model.__name__}(...), "
            "image)."
        )
    return FunctionBlackBox(model) if callable(model) else None
