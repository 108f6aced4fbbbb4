"""Captum's inputs, baselines and feature masks as batches of images."""

from typing import Any

import torch
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images

_WHO = "MaskerAttribution.attribute"


def images_of(inputs: Any) -> Images:
    """The batch of images that Captum's `inputs` hold.

    Args:
        inputs: A float tensor (B, C, H, W), or a tuple of one.

    Raises:
        InputError: They are something else, such as vectors or several inputs.

    Example:
        >>> images_of((torch.zeros(2, 3, 4, 5),)).shape
        torch.Size([2, 3, 4, 5])
    """
    tensors = as_tuple(inputs)
    images = tensors[0] if len(tensors) == 1 else None
    if (
        isinstance(images, Tensor)
        and images.is_floating_point()
        and images.ndim == 4
        and 0 not in images.shape
    ):
        return images
    came = ", ".join(
        f"{each.dtype} of shape {tuple(each.shape)}" if isinstance(each, Tensor) else name_of(each)
        for each in tensors
    )
    raise InputError(
        f"{_WHO} explains images: inputs is one float tensor (B, C, H, W) with no empty side; got "
        f"{came or 'an empty tuple'}. Give further inputs of the model as additional_forward_args; "
        "for vectors, sequences and several inputs use Captum's own methods."
    )


def expanded(given: Any, images: Images, what: str) -> Tensor:
    """Baselines or a feature mask as (1, C, H, W), or (B, C, H, W) if there is one per image.

    Args:
        given: A number, or a tensor that can be expanded to (1 or B, C, H, W); or a tuple of one.
        images: (B, C, H, W).
        what: The argument's name, for messages.

    Raises:
        InputError: It does not fit the images.
    """
    values = as_tuple(given)
    value = values[0] if len(values) == 1 else given
    if isinstance(value, int | float):
        value = torch.tensor(value, dtype=images.dtype, device="cpu")
    if not isinstance(value, Tensor):
        raise InputError(
            f"{_WHO}({what}=...) takes a number or a tensor; got "
            f"{f'{len(values)} values' if isinstance(value, tuple) else name_of(value)}."
        )
    rows = len(value) if value.ndim > 3 else 1
    try:
        if rows not in (1, len(images)):
            raise RuntimeError
        return value.detach().to(images.device).expand(rows, *images.shape[1:])
    except RuntimeError:
        raise InputError(
            f"{_WHO}({what}=...): shape {tuple(value.shape)} does not fit inputs of shape "
            f"{tuple(images.shape)}; give a number, one row (1, ...) for all or one row for each "
            f"of the {len(images)}."
        ) from None


def as_tuple(given: Any) -> tuple[Any, ...]:
    """A tuple as it is, anything else as a tuple of one."""
    return given if isinstance(given, tuple) else (given,)
