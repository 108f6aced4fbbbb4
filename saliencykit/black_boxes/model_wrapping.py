"""Whatever a user calls a model, as a black box."""

from dataclasses import replace
from os import PathLike

from torch import nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.timm import wrap_timm
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.black_boxes.torchvision import wrap_torchvision
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks.module_state import unwrap


def wrap_model(model: object) -> BlackBox | None:
    """A BlackBox around a torch module, a function on numpy arrays or a surrogate's file; None for
    anything else.

    Models of timm and torchvision bring their pixel statistics, input size and class names, also
    inside `torch.compile` and DataParallel. For any other module nothing is guessed: it takes
    tensors only, unless it is given as `TorchBlackBox(model, mean=...)`.

    Args:
        model: Whatever was given to `explain`.

    Raises:
        InputError: A class was given instead of an object, or a file is not a surrogate.

    Example:
        >>> wrap_model(nn.Flatten())
        TorchBlackBox(Flatten, size=None, probabilities=False)
        >>> wrap_model(3) is None
        True
    """
    if isinstance(model, str | PathLike) and str(model).endswith(".safetensors"):
        return Surrogate.load(str(model))
    if isinstance(model, BlackBoxModule):
        return model.black_box
    if isinstance(model, nn.Module):
        own = unwrap(model)
        black_box = wrap_timm(own) or wrap_torchvision(own) or TorchBlackBox(own)
        return black_box if own is model else replace(black_box, model=model)
    if isinstance(model, type):
        raise InputError(
            f"{model.__name__} is a class; pass an instance: explain({model.__name__}(...), image)."
        )
    return FunctionBlackBox(model) if callable(model) else None
