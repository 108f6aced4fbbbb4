"""The torch module inside a black box, and its layers by name."""

import torch
from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError

WITHOUT_LAYERS = (
    "maskers that need no layers: 'iterative' and 'gradient' (they take gradients), 'rise' and "
    "'occlusion' (they only query)"
)
"""What to use where a model's layers cannot be read."""
_OWN_ENCODER = (
    "a network with an encoder of its own: fit(..., encoder='own') or encoder='timm:resnet50'; or, "
    "if it was trained on a surrogate, masker='on-surrogate:SURROGATE,masker=FILE'"
)


def module_of(black_box: BlackBox, instead: str = _OWN_ENCODER) -> nn.Module:
    """The torch module inside a black box.

    Args:
        black_box: The classifier.
        instead: What to use where there is none, for the message.

    Raises:
        InputError: There is none.
    """
    if black_box.module is None:
        raise InputError(
            f"{name_of(black_box)} does not expose a torch module, so its layers cannot be read. "
            f"Use {instead}."
        )
    return black_box.module


def get_layer(module: nn.Module, name: str) -> nn.Module:
    """A layer by its dotted name.

    Raises:
        InputError: There is none.
    """
    try:
        return module.get_submodule(name)
    except AttributeError:
        raise InputError(
            f"{name_of(module)} has no layer {name!r}; this masker was made for another model."
        ) from None


def torchscript_hint(module: nn.Module) -> str:
    """The end of a message about missing layers, where TorchScript hides some; else empty.

    Args:
        module: The classifier's.

    Example:
        >>> torchscript_hint(torch.jit.script(nn.ReLU()))
        ' TorchScript hides its layers: give the Python module that it was made from.'
    """
    if not any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return ""
    return " TorchScript hides its layers: give the Python module that it was made from."


def another_masker(black_box: BlackBox) -> str:
    """What to write where a map of a layer cannot be had: any model with gradients has Grad-CAM;
    one that computes with integers (int8) answers queries only.

    Args:
        black_box: The classifier.
    """
    return f"masker={'grad-cam' if black_box.differentiable else 'rise'!r}"
