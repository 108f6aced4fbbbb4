"""What an adapter returns of a masker's output: the mask, or the attributions behind it."""

from typing import Literal, TypeAlias

from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput

Values: TypeAlias = Literal["mask", "attributions"]


def values_of(output: MaskerOutput, values: Values, masker: Masker) -> Tensor:
    """The mask, or the signed attributions behind it.

    Args:
        output: Of the masker.
        values: `mask` or `attributions`.
        masker: For the message.

    Returns:
        (B, 1, H, W).

    Raises:
        InputError: The masker has no attributions.
    """
    maps = output.mask if values == "mask" else output.attributions
    if maps is None:
        raise InputError(f"{name_of(masker)} gives a mask only; write values='mask'.")
    return maps
