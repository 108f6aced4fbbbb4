"""Whatever a user calls a model, as a black box."""

from dataclasses import replace
from os import PathLike

from torch import nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.library_models import wrap_library_model
from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.timm import wrap_timm
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.black_boxes.torchvision import wrap_torchvision
from saliencykit.black_boxes.transformers import wrap_transformers
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks.module_state import unwrap


def wrap_model(model: object) -> BlackBox | None:
    """A BlackBox around a torch module, a function on numpy arrays or a surrogate's file; None for
    anything else.

    Models of timm, torchvision and transformers bring their pixel statistics, input size and class
    names, also inside `torch.compile` and DataParallel; so do pipelines of transformers, fastai
    learners and YOLO classifiers. For any other module nothing is guessed: it takes tensors only,
    unless it is given as `TorchBlackBox(model, mean=...)`.

    Args:
        model: Whatever was given to `explain`.

    Raises:
        InputError: A class was given instead of an object, a file is not a surrogate, or a library
            is known whose models cannot be explained as they are; the message says how they can.

    Example:
        >>> wrap_model(nn.Flatten())
        TorchBlackBox(Flatten, size=None, output='softmax')
        >>> wrap_model(3) is None
        True
    """
    if isinstance(model, str | PathLike) and str(model).endswith(".safetensors"):
        return Surrogate.load(str(model))
    if isinstance(model, BlackBoxModule):
        return model.black_box
    black_box = wrap_library_model(model) or wrap_transformers(model)
    if black_box is not None:
        return black_box
    if isinstance(model, nn.Module):
        own = unwrap(model)
        wrapped = wrap_timm(own) or wrap_torchvision(own) or wrap_transformers(own)
        wrapped = wrapped or TorchBlackBox(own)
        return wrapped if own is model else replace(wrapped, model=model)
    if isinstance(model, type):
        raise InputError(
            f"{model.__name__} is a class; pass an instance: explain({model.__name__}(...), image)."
        )
    return FunctionBlackBox(model) if callable(model) else None
