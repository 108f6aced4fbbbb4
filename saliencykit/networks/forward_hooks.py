"""Forward hooks that only our own call sees."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any, TypeAlias

import torch
from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.networks.module_layers import get_layer, module_of
from saliencykit.networks.private_copy import with_private_module

ForwardHook: TypeAlias = Callable[[nn.Module, Any, Any], Any]


@contextmanager
def hooked(
    black_box: BlackBox, names: Sequence[str] | None, hook_of: Callable[[str], ForwardHook]
) -> Iterator[BlackBox]:
    """A black box to query inside the `with` block, with hooks on its layers.

    The hooks are on a private copy of its module: the user's module, and other threads that run it,
    never see them.

    Args:
        black_box: With a torch module inside.
        names: The dotted names of the layers. None: all that take hooks (those of TorchScript do
            not).
        hook_of: Makes the hook of the layer of this name.

    Raises:
        InputError: There is no such layer.
    """
    own = with_private_module(black_box)
    module, thread = module_of(own), get_ident()
    if names is None:
        layers = [(name, layer) for name, layer in module.named_modules() if name]
        layers = [each for each in layers if not isinstance(each[1], torch.jit.ScriptModule)]
    else:
        layers = [(name, get_layer(module, name)) for name in names]

    def in_this_thread(hook: ForwardHook) -> ForwardHook:
        return lambda *call: hook(*call) if get_ident() == thread else None

    handles = []
    try:
        for name, layer in layers:
            # a black box whose module cannot be replaced is hooked itself
            hook = in_this_thread(hook_of(name)) if own is black_box else hook_of(name)
            handles.append(layer.register_forward_hook(hook))
        yield own
    finally:
        for handle in handles:  # hooks that refer to their layer would keep the copy alive
            handle.remove()
