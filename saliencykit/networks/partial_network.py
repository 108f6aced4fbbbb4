"""A classifier from one of its layers on."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.module_calls import ModuleCall, record_calls
from saliencykit.networks.module_layers import another_masker, module_of
from saliencykit.networks.private_copy import with_private_module
from saliencykit.networks.tolerance import close_to_rounding


@final
class PartialNetwork:
    """The part of a classifier after one of its layers, as a function of that layer's output.

    Nothing is traced: in a copy of the network the layers before return zeros, and the layer itself
    returns the maps that it is given. The copy must give the network's logits for the network's own
    feature maps, else the network cannot be split at this layer; `network_after` and
    `choose_split_layer` check that.

    Args:
        black_box: An optimized copy of the black box, owned by this object.
        feature_map: The layer.
        calls: Recorded when the network ran; the layers before this one in it are replaced.
    """

    def __init__(
        self, black_box: BlackBox, feature_map: FeatureMap, calls: Sequence[ModuleCall]
    ) -> None:
        self.black_box, self.feature_map = black_box, feature_map
        self._output: Tensor | None = None
        self._next = 0
        module = module_of(black_box)
        names = [call.name for call in calls]
        self._tokens = calls[names.index(feature_map.name)].output[:1].detach()
        before = set(names[: names.index(feature_map.name)]) - _parents(feature_map.name)
        for call in calls:
            if call.name in before and not _parents(call.name) & before:
                zeros = _Zeros(call.output.shape[1:], self._tokens)
                module.get_submodule(call.name).forward = zeros
        module.get_submodule(feature_map.name).forward = self._return_maps

    def __call__(self, maps: Tensor, size: Sequence[int]) -> Logits:
        """The logits for maps (B, C, h, w) at the layer. Gradients flow to the maps.

        Args:
            maps: What the layer shall return.
            size: (C, H, W) of the images.
        """
        tokens = self._tokens.expand(len(maps), *self._tokens.shape[1:])
        self._output, self._next = self.feature_map.write(maps, tokens), 0
        try:
            return self.black_box(maps.new_zeros(len(maps), *size))
        finally:
            self._output = None

    def use_tokens(self, output: Tensor) -> None:
        """Take tokens before the grid from this output of the layer, (1, N, C), from now on."""
        self._tokens = output

    def _return_maps(self, images: Tensor, *_: Any, **__: Any) -> Tensor:
        assert self._output is not None
        rows = self._output[self._next : self._next + len(images)]
        self._next += len(images)
        return rows


def network_after(black_box: BlackBox, image: Images, feature_map: FeatureMap) -> PartialNetwork:
    """The classifier from this layer on, in a copy; checked on the image.

    Where the model needs the layers before (dense connections), they run on a black image, and
    nothing is saved.

    Args:
        black_box: With a torch module inside, which is not changed.
        image: (1, C, H, W).
        feature_map: The layer.

    Raises:
        InputError: The model cannot be copied, or what comes before the layer also reaches the
            logits some other way.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4)
        ... )
        >>> black_box, image = TorchBlackBox(net), torch.rand(1, 3, 8, 8)
        >>> after = network_after(black_box, image, FeatureMap("0", "maps", 8, (6, 6)))
        >>> bool((after(net[0](image), image.shape[1:]) - black_box(image)).abs().max() < 1e-4)
        True
    """
    who = name_of(module_of(black_box))
    black_box = with_private_module(black_box)
    with torch.no_grad():
        logits, calls = record_calls(black_box, image)
        own = [call for call in calls if call.name == feature_map.name]
        optimized = black_box.optimized_for(image)
        if with_private_module(optimized) is optimized:
            raise InputError(
                f"{name_of(black_box)} does not keep {who} in its attributes, so it cannot be "
                f"split; use {another_masker(black_box)}."
            )
    for known in (calls, own):
        output = own[0].output if own else logits  # of a layer that is called several times
        network = checked_network(optimized, feature_map, known, output, image, logits)
        if network is not None:
            return network
    raise InputError(
        f"the logits of {who} do not depend on the output of {feature_map.name!r} alone; name a "
        f"layer=... that everything passes through, or use {another_masker(black_box)}."
    )


def checked_network(
    black_box: BlackBox,
    feature_map: FeatureMap,
    calls: Sequence[ModuleCall],
    output: Tensor,
    image: Images,
    logits: Logits,
) -> PartialNetwork | None:
    """The classifier from a layer on, in a copy; None where it does not give the same logits.

    Args:
        black_box: It can be copied.
        feature_map: The layer.
        calls: The recorded calls: what runs before the layer is left out.
        output: That of the layer for the image.
        image: (1, C, H, W).
        logits: (1, K).
    """
    try:
        network = PartialNetwork(with_private_module(black_box), feature_map, calls)
        with torch.no_grad():
            again = network(feature_map.read(output, image.shape[2:]), image.shape[1:])
    except Exception:  # a layer that needs the ones before it
        return None
    return network if close_to_rounding(again, logits) else None


def _parents(name: str) -> set[str]:
    return {name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)}


@final
class _Zeros:
    """The forward pass of a layer whose output is not needed."""

    def __init__(self, shape: torch.Size, like: Tensor) -> None:
        self.shape, self.like = shape, like

    def __call__(self, images: Any = None, *_: Any, **__: Any) -> Tensor:
        count = len(images) if isinstance(images, Tensor) else 1
        return self.like.new_zeros(count, *self.shape)
