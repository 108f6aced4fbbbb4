"""The layer that Grad-CAM and its kin read: the last one whose output is a map over the picture and
still moves the answer.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Generator, Tensor, nn

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_maps import (
    Call,
    FeatureMap,
    as_feature_map,
    eager,
    module_of,
    read_feature_maps,
    record_calls,
    unheard,
)
from saliencykit.networks.tolerance import close_to_rounding

_MOST = 0.5  # of the positions: of a class token's own map it is one, of pooled maps all
_SMALL = 64  # pixels: networks for such pictures have maps of more than half their side
_UNDECIDED = 0.5  # above 1: changes less gathered than this are spread by mixing
# of the gathering; 0.9 and more where tokens are in order, 0.05 in the early layers of Hiera, where
# they are not
_INSIDE = 0.25
_LAYERLESS = "maskers that need no layers: 'iterative' and 'gradient' (they take gradients), 'rise' and 'occlusion' (they only ask)"

_known: "WeakKeyDictionary[nn.Module, dict[tuple[object, ...], FeatureMap]]" = WeakKeyDictionary()
"""What was found for a model and a size of picture: a function of these two alone, and as costly as
a few answers.
"""


def target_layer(black_box: BlackBox, images: Images, layer: str | None = None) -> FeatureMap:
    """Find the layer whose activation maps Grad-CAM uses, by watching the box's model answer once
    about noise.

    It is the last layer (in the order in which they end) such that

    - its output is a map over the picture: channels first, channels last, or tokens with a grid
      among them;
    - the answer has a gradient at more than half of the map's positions. Behind the last attention
      of a transformer that reads a class token the other tokens no longer count, so there the layer
      is the norm before that attention; Only where no layer has that many, as under a global
      maximum, the last map with any gradient does;
    - it is no pooling (which forgets where), no map of the logits themselves, and none of
      attention's own projections;
    - its tokens are not found to stand in another order than the picture: a change in a corner of
      it is seen in that corner.

    Nothing depends on the pictures but their size, so a model has one such layer, which is looked
    for once and remembered as long as the model lives.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), as the box takes them; only their shape, dtype and device count.
        layer: The dotted name of a layer to use instead, as in `model.named_modules()`.

    Returns:
        The layer's name, layout and grid: `read_feature_maps(black_box, images, [feature_map])` gives its maps,
        `cut_at` also their gradients.

    Raises:
        InputError: The box shows no torch module; no layer qualifies; or the named one does not
            exist or gives no map.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4))
        >>> feature_map = target_layer(TorchBlackBox(net), torch.rand(2, 3, 16, 16))
        >>> feature_map.name, feature_map.layout, feature_map.side
        ('1', 'maps', (7, 7))

    References:
        Selvaraju et al. 2017, "Grad-CAM", section 3: the last convolutional layers are the
        compromise of meaning and place.
    """
    model = black_box.source_module
    if black_box.module is None or model is None:
        raise InputError(
            f"{name_of(black_box)} shows no torch module, so no layer of it can be read. Use "
            f"{_LAYERLESS}."
        )
    key = (layer, *images.shape[1:])
    known = _known.setdefault(model, {})
    if key not in known:
        probe = noise(images)
        known[key] = _search(black_box, probe) if layer is None else _named(black_box, probe, layer)
    return known[key]


def noise(images: Images) -> Images:
    """The picture of noise, (1, C, H, W), that models are watched with."""
    return rng.uniform(
        images.new_zeros(1, *images.shape[1:]),
        images.shape[1:],
        generator=Generator().manual_seed(0),
    )


def cut_at(
    black_box: BlackBox, images: Images, feature_map: FeatureMap
) -> tuple[Logits, list[Tensor]]:
    """Ask a box such that the logits' graph starts at a layer: what comes before it runs without
    one.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W).
        feature_map: The layer.

    Returns:
        The logits, and the layer's raw outputs as leaves: one for each time the model was called, a
        chunk of the batch each. `torch.autograd.grad(logits..., leaves)` and `tap.read(leaf,
        images.shape[2:])` give slopes and maps.

    Raises:
        InputError: The layer did not answer once for each image.
        GradientError: The logits do not depend on the layer's output.
    """
    assert black_box.module is not None
    leaves: list[Tensor] = []

    def cut(module: nn.Module, given: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        torch.set_grad_enabled(True)  # from here on; the box puts back what it found
        leaves.append(output.detach().requires_grad_())
        return leaves[-1] * 1  # a copy: the model may work in place on it

    handle = black_box.module.get_submodule(feature_map.name).register_forward_hook(cut)
    try:
        # under no_grad only what follows the cut is recorded; a model that sets the mode by itself
        # is recorded whole
        for mode in (torch.no_grad, torch.enable_grad):
            leaves.clear()
            with torch.enable_grad(), eager(black_box), mode():
                logits = black_box(images)
            if logits.requires_grad:
                break
    finally:
        handle.remove()
    answered = sum(map(len, leaves))
    if answered != len(images):
        raise InputError(
            f"{feature_map.name!r} of {name_of(black_box.module)} answered for {answered} of "
            f"{len(images)} images; name another layer."
        )
    if not logits.requires_grad:
        raise GradientError(
            f"the logits of {name_of(black_box.module)} do not depend on the output of "
            f"{feature_map.name!r} in autograd; name another layer, or use masker='rise' or 'occlusion', "
            "which only ask."
        )
    return logits, leaves


def _search(black_box: BlackBox, probe: Images) -> FeatureMap:
    with torch.enable_grad():
        logits, calls = record_calls(black_box, probe.clone().requires_grad_())
        direction = rng.normal(
            logits[:, :1, None, None], logits.shape[1:], generator=Generator().manual_seed(1)
        )
        answer = (
            logits * direction
        ).sum()  # of all classes at once: no label decides about the layer
    unordered, sparse = [], None
    for feature_map, call in _candidates(logits.detach(), calls, probe):
        share = _moving(answer, feature_map, call, probe)
        if share <= _MOST:
            if sparse is None and share > 0 and feature_map.layout != "tokens":
                sparse = feature_map
            continue
        if feature_map.layout != "tokens" or in_order(black_box, feature_map, probe):
            return feature_map
        unordered.append(feature_map.name)
    if sparse is not None:
        return sparse
    why = "passes a gradient from the logits to a map over the picture"
    if unordered:
        why = f"keeps its tokens in the order of the picture (not so: {', '.join(unordered[:3])})"
    raise InputError(
        f"no layer of {name_of(black_box.module)} {why}, at {probe.shape[2]} x {probe.shape[3]} pixels. "
        "Name one with layer=..., give a larger picture, or use "
        f"{_LAYERLESS}.{unheard(module_of(black_box))}"
    )


def _candidates(
    logits: Logits, calls: Sequence[Call], probe: Images
) -> Iterator[tuple[FeatureMap, Call]]:
    """Layers from the last to the first, projections of single tokens after all others."""
    pooled = {
        id(call.output)
        for call in calls
        if "Pool" in name_of(call.module) and not list(call.module.parameters())
    }
    projections = []
    for call in reversed(calls):
        feature_map = _as_map(call, probe, named=False)
        if (
            feature_map is None or not call.output.requires_grad or id(call.output) in pooled
        ):  # a container ends with its last layer
            continue
        maps = feature_map.read(call.output.detach(), probe.shape[2:])
        if feature_map.channels == logits.shape[1] and any(
            close_to_rounding(m.mean((2, 3)), logits) for m in (maps, maps.relu())
        ):
            continue
        if isinstance(call.module, nn.Linear):  # queries, keys, values, the inside of a perceptron
            projections.append((feature_map, call))
        else:
            yield feature_map, call
    yield from projections


def _as_map(call: Call, probe: Images, *, named: bool) -> FeatureMap | None:
    """The output as a tap; fine maps count too, channels first, in small pictures or where the
    layer was named.
    """
    feature_map, (height, width), shape = (
        as_feature_map(call, probe),
        probe.shape[2:],
        call.output.shape,
    )
    # another layer's output, or weights
    same = name_of(call.module).startswith(("Dropout", "DropPath", "Softmax", "Identity"))
    if (
        feature_map is None
        and not same
        and len(shape) == 4
        and (named or max(height, width) <= _SMALL)
    ):
        (h, w), ratio = shape[2:], shape[2] / height
        if (
            len(probe) == shape[0]
            and 2 <= h <= height
            and 2 <= w <= width
            and abs(w - width * ratio) <= 1
        ):
            return FeatureMap(call.name, "maps", shape[1], (h, w))
    return feature_map


def _moving(answer: Tensor, feature_map: FeatureMap, call: Call, probe: Images) -> float:
    """The share of the map's positions that the answer has a gradient at."""
    try:
        (slope,) = torch.autograd.grad(answer, call.output, retain_graph=True, allow_unused=True)
    except RuntimeError:  # something was written over that the way back needs
        return 0.0
    if slope is None:
        return 0.0
    there = (feature_map.read(slope, probe.shape[2:]) != 0).any(1)
    return float(there.float().mean())


def in_order(black_box: BlackBox, feature_map: FeatureMap, probe: Images) -> bool:
    """Where a corner of the picture changes, does that corner of the map?

    Each corner's quarter of the picture is inverted in turn. Of the map's change, the quarter of
    the positions that change most has so many times the mean (4 at most), and the right corner has
    so many times the mean. Out of order is a map whose changes are gathered at few positions, but
    not in the corner. Where everything changes alike (an untrained mixer) nothing can be said.
    """
    (height, width), (h, w) = probe.shape[2:], feature_map.side
    edits = probe.repeat(5, 1, 1, 1)
    corners = [(y, x) for y in (0, 1) for x in (0, 1)]
    for edit, (y, x) in zip(edits[1:], corners, strict=True):
        part = edit[:, _half(y, height), _half(x, width)]
        part.copy_(1 - part)
    with torch.no_grad():
        _, (maps,) = read_feature_maps(black_box, edits, [feature_map])
    change = (maps[1:] - maps[:1]).abs().sum(1)
    change = change / change.mean((1, 2), keepdim=True).clamp_min(torch.finfo(change.dtype).tiny)
    gathered = change.flatten(1).topk(max(1, h * w // 4)).values.mean() - 1
    inside = (
        torch.stack(
            [c[_half(y, h), _half(x, w)].mean() for c, (y, x) in zip(change, corners, strict=True)]
        ).mean()
        - 1
    )
    return bool((gathered < _UNDECIDED) | (inside > _INSIDE * gathered))


def _half(which: int, side: int) -> slice:
    return slice(side - side // 2, None) if which else slice(side // 2)


def _named(black_box: BlackBox, probe: Images, layer: str) -> FeatureMap:
    assert black_box.module is not None
    with torch.no_grad():
        _, calls = record_calls(black_box, probe)
    for call in calls:
        if call.name == layer and (feature_map := _as_map(call, probe, named=True)) is not None:
            return feature_map
    names = [name for name, _ in black_box.module.named_modules() if name]
    others = ", ".join(
        repr(call.name)
        for call in reversed(calls)
        if as_feature_map(call, probe) is not None and call.name.count(".") < 2
    )
    if layer not in names:
        what = "is not one of its layers"
    else:
        shapes = [tuple(call.output.shape) for call in calls if call.name == layer]
        what = (
            f"returns {shapes[0]}, no map over the picture"
            if shapes
            else "does not return one tensor once per answer"
        )
    raise InputError(
        f"layer={layer!r} of {name_of(black_box.module)} {what}. Some that are maps, the last first: "
        f"{others or 'none'}."
    )
