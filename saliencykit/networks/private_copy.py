"""A copy of the user's model that one call may hook, switch to eval mode, convert and fold."""

from weakref import WeakKeyDictionary

import torch
from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.types import Images
from saliencykit.networks.module_copier import Cloned, ModuleCopier
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.module_state import unwrap

_sources: "WeakKeyDictionary[nn.Module, nn.Module]" = WeakKeyDictionary()
"""The user's own module of each private copy."""


def private_copy(
    model: nn.Module, *, clone: Cloned = "buffers", dtype: torch.dtype | None = None
) -> nn.Module:
    """A copy of a module, in eval mode, that shares its weights and nothing else.

    Hooks, modes and attributes that are set on the copy are not seen by the model, nor by threads
    that run or train it. The weights take no gradients, and changing the model's weights between
    our forward and backward pass raises no error. Where one layer refers to another, in lists,
    bound methods, closures or the globals of a replaced `forward`, the copy refers to the copied
    one. Compiled and parallel wrappers are taken off.

    Args:
        model: Any module; it is only read.
        clone: `buffers`: those have values of their own, as the statistics of batch norms move with
            each step of training, and some models count there. `all`: and the weights, so that
            training does not change the copy.
        dtype: Convert the floating-point weights. None: they stay as they are.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        >>> copied = private_copy(model)
        >>> copied.training, model.training
        (False, True)
        >>> copied[0].weight.data_ptr() == model[0].weight.data_ptr()
        True
    """
    model = unwrap(model)
    copied: nn.Module = _copier(model, clone, dtype).of(model)
    return copied


def source_of(model: nn.Module) -> nn.Module:
    """The user's own module that a private copy was made of; of any other module, itself."""
    return _sources.get(model, model)


def is_private(model: nn.Module) -> bool:
    """Is it a private copy?"""
    return model in _sources


def with_private_module(black_box: BlackBox, *, dtype: torch.dtype | None = None) -> BlackBox:
    """The same black box on a private copy of its module.

    Where the copy cannot reach the black box, because it keeps its module outside of its own
    attributes, that is the black box itself.

    Args:
        black_box: With a torch module inside.
        dtype: See `private_copy`.
    """
    module = module_of(black_box)
    copier = _copier(module, "buffers", dtype)
    own: BlackBox = copier.of(black_box)
    return own if own.module is copier.of(module) else black_box


def in_float32(black_box: BlackBox, images: Images) -> BlackBox:
    """The same black box with a half-precision module computing in float32, where it can.

    Rounding to bfloat16 hides which layer another one reads, and moves a feature map by several
    percent. A module that casts in its own code stays as it is.

    Args:
        black_box: With a torch module inside, or without.
        images: (B, C, H, W); the first one is tried.
    """
    weights = () if black_box.module is None else black_box.module.parameters()
    if not any(each.dtype in (torch.float16, torch.bfloat16) for each in weights):
        return black_box
    own = with_private_module(black_box, dtype=torch.float32)
    try:
        with torch.no_grad():
            own(images[:1])
    except SaliencyKitError:
        return black_box
    return own


def _copier(model: nn.Module, clone: Cloned, dtype: torch.dtype | None) -> ModuleCopier:
    """The copier of a model, with the copy's source remembered."""
    copier = ModuleCopier(model, clone, dtype)
    if (copied := copier.of(model)) is not model:
        _sources[copied] = source_of(model)
    return copier
