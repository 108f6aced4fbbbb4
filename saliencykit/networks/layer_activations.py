"""The outputs of given layers while a black box is queried."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.forward_hooks import ForwardHook, hooked
from saliencykit.networks.module_layers import module_of


@final
@dataclass
class ActivationRecorder:
    """Keeps what the layers of given names return, in the order of their calls."""

    outputs: dict[str, list[Tensor]] = field(default_factory=dict)

    def hook(self, name: str) -> ForwardHook:
        """A forward hook for the layer of this name.

        Args:
            name: The key of its outputs.
        """

        def record(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(name, []).append(output)

        return record


def read_outputs(
    black_box: BlackBox, images: Images, names: Sequence[str]
) -> dict[str, list[Tensor]]:
    """Query a black box once without a graph, and read what layers return, by name and call.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W).
        names: Layers of that module.

    Returns:
        For each layer that returned tensors, the output of each of its calls.
    """
    recorder = ActivationRecorder()
    with torch.no_grad(), hooked(black_box, names, recorder.hook) as own:
        own(images)
    joined = {}
    for name, chunks in recorder.outputs.items():
        calls = max(1, sum(map(len, chunks)) // len(images))  # the batch may have been split
        joined[name] = [torch.cat(chunks[i::calls]) for i in range(min(calls, len(chunks)))]
    return joined


def read_feature_maps(
    black_box: BlackBox, images: Images, feature_maps: Sequence[FeatureMap]
) -> tuple[Logits, tuple[Tensor, ...]]:
    """Query a black box once, and read its feature maps on the way.

    Args:
        black_box: A black box with a torch module inside.
        images: (B, C, H, W), as the black box takes them.
        feature_maps: Layers of that module.

    Returns:
        The logits, and one tensor (B, C, h, w) per feature map.

    Raises:
        InputError: The module has no layer of such a name, or a layer did not return one row for
            each image.
    """
    recorder = ActivationRecorder()
    with hooked(black_box, _names(feature_maps), recorder.hook) as own:
        logits = own(images)
    return logits, _maps(black_box, recorder, images, feature_maps)


@final
class FeatureReader:
    """`read_feature_maps`, again and again from a black box that does not change: the copy with the
    hooks is made once for each thread.

    Args:
        black_box: An optimized copy, with a torch module inside.
        feature_maps: Layers of that module.
    """

    def __init__(self, black_box: BlackBox, feature_maps: Sequence[FeatureMap]) -> None:
        self.black_box, self.feature_maps = black_box, tuple(feature_maps)
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        """The copies stay where they are."""
        return FeatureReader, (self.black_box, self.feature_maps)

    def __call__(self, images: Images) -> tuple[Logits, tuple[Tensor, ...]]:
        """The logits, and one tensor (B, C, h, w) per feature map.

        Args:
            images: (B, C, H, W), as the black box takes them.

        Raises:
            InputError: As `read_feature_maps`.
        """
        mine = self._of_thread
        if not hasattr(mine, "own"):
            mine.recorder = ActivationRecorder()
            mine.hooks = hooked(self.black_box, _names(self.feature_maps), mine.recorder.hook)
            mine.own = mine.hooks.__enter__()
        try:
            logits = mine.own(images)
            return logits, _maps(self.black_box, mine.recorder, images, self.feature_maps)
        finally:
            mine.recorder.outputs.clear()
            if mine.own is self.black_box:  # no copy was possible: the hooks do not stay
                mine.hooks.__exit__(None, None, None)
                del mine.own


def _names(feature_maps: Sequence[FeatureMap]) -> list[str]:
    return list(dict.fromkeys(feature_map.name for feature_map in feature_maps))


def _maps(
    black_box: BlackBox,
    recorder: ActivationRecorder,
    images: Images,
    feature_maps: Sequence[FeatureMap],
) -> tuple[Tensor, ...]:
    maps = []
    for feature_map in feature_maps:
        chunks = recorder.outputs.get(feature_map.name, [])
        if len(chunks) % feature_map.calls == 0:
            chunks = chunks[feature_map.call :: feature_map.calls]
        _check_rows(
            black_box, feature_map, chunks, images,
            "a compiled or parallel model hides its layers: give the plain module",
        )  # fmt: skip
        output = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        maps.append(feature_map.read(output, images.shape[2:]))
    return tuple(maps)


def logits_and_activations(
    black_box: BlackBox, images: Images, feature_map: FeatureMap
) -> tuple[Logits, list[Tensor]]:
    """Query a black box such that the autograd graph of the logits starts at a layer.

    The layers before it run without a graph, which saves time and memory.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W).
        feature_map: The layer.

    Returns:
        The logits, and the layer's raw outputs as leaves: one for each call of the model, a chunk
        of the batch each. `torch.autograd.grad(logits..., leaves)` gives their gradients, and
        `feature_map.read(leaf, images.shape[2:])` the maps.

    Raises:
        InputError: The layer did not return one row for each image.
        GradientError: The logits do not depend on the layer's output.
    """
    leaves: list[Tensor] = []
    calls = 0

    def start_graph(layer: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if not isinstance(output, Tensor) or (calls - 1) % feature_map.calls != feature_map.call:
            return output
        torch.set_grad_enabled(True)  # from here on; `no_grad` below restores the mode
        leaves.append(output.detach().requires_grad_())
        return leaves[-1] * 1  # a copy: the model may work in place on it

    with hooked(black_box, [feature_map.name], lambda _: start_graph) as own:
        # under no_grad only what follows the layer is recorded; a model that sets the mode itself
        # is recorded as a whole
        for mode in (torch.no_grad, torch.enable_grad):
            leaves.clear()
            calls = 0
            with torch.enable_grad(), mode():
                logits = own(images)
            if logits.requires_grad:
                break
    _check_rows(black_box, feature_map, leaves, images, "name another layer")
    if not logits.requires_grad:
        raise GradientError(
            f"the logits of {name_of(module_of(black_box))} do not depend on the output of "
            f"{feature_map.name!r} in autograd; name another layer, or use masker='rise' or "
            "'occlusion', which need no gradients."
        )
    return logits, leaves


def _check_rows(
    black_box: BlackBox,
    feature_map: FeatureMap,
    chunks: Sequence[Tensor],
    images: Images,
    advice: str,
) -> None:
    rows = sum(map(len, chunks))
    if rows != len(images):
        raise InputError(
            f"layer {feature_map.name!r} of {name_of(module_of(black_box))} returned {rows} rows "
            f"for {len(images)} images; {advice}."
        )
