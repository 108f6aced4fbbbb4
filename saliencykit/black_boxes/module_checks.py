"""What a torch module must have to be explained, and why it failed on images."""

import re

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images
from saliencykit.core.visible_text import first_line

# torch.ao.nn.quantized, torch.ao.nn.intrinsic.quantized and their older names; not those of
# quantization-aware training, which compute with floats
_QUANTIZED = re.compile(r"torch\.(ao\.)?nn\.(\w+\.)*quantized")


def check_weights(model: nn.Module) -> None:
    """Raise InputError unless the parameters have values, which those of lazy modules and those on
    the device `meta` have not.

    Args:
        model: The module.
    """
    for name, tensor in model.named_parameters():
        if is_lazy(tensor):
            raise InputError(
                f"{name_of(model)}.{name} has no shape yet; run the model once before it is "
                "explained: model(images)."
            )
        # accelerate loads weights from meta for each call
        if tensor.is_meta and not any(hasattr(part, "_hf_hook") for part in model.modules()):
            raise InputError(
                f"{name_of(model)}.{name} is on the device meta and has no values; load its "
                "weights: model.load_state_dict(weights, assign=True)."
            )


def is_quantized(model: nn.Module) -> bool:
    """Does the model compute with integers, which have no gradients?

    Example:
        >>> is_quantized(nn.Linear(2, 2))
        False
    """
    return any(_QUANTIZED.match(type(module).__module__) for module in model.modules())


def reason_of_failure(
    model: nn.Module,
    error: Exception,
    images: Images,
    size: tuple[int, int] | None,
    example: Tensor,
) -> str:
    """One line about an exception of the model, with what to write where that is known.

    Args:
        model: The module.
        error: What it raised.
        images: (B, C, H, W), what it was called with.
        size: Its own input size, if known.
        example: One of its weights.
    """
    who, reason, shape = name_of(model), first_line(error), tuple(images.shape)
    text = f"{who} raised {type(error).__name__} on images of shape {shape}: {reason}."
    if isinstance(error, TypeError) and "required positional argument" in reason:
        return (
            f"{text} If the model takes further inputs, write TorchBlackBox(model, "
            "forward_args=(...)) with those of one image."
        )
    if isinstance(error, TypeError) and "positional argument" in reason:
        return (
            f"{text} The model is called as model(images); if it takes them by a keyword, wrap it "
            "in a small nn.Module whose forward(self, images) calls it."
        )
    no_kernel = "not implemented" in reason or "upported" in reason
    if example.dtype in (torch.float16, torch.bfloat16) and no_kernel:
        return (
            f"{text} The model is {example.dtype} and {example.device} lacks a kernel for that; "
            "explain model.float() instead."
        )
    if any(isinstance(module, nn.Conv3d) for module in model.modules()):
        return (
            f"{text} For volumes or clips write their slices as channels: "
            "explain(nn.Sequential(nn.Unflatten(1, (C, D)), model), x.flatten(1, 2))."
        )
    if size is not None and images.shape[2:] != size:
        return f"{text} Its own input size is {size[0]}x{size[1]}."
    if len(images) > 1:
        return (
            f"{text} If it takes one image at a time, write TorchBlackBox(model, max_batch_size=1)."
        )
    return text
