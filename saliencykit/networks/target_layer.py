"""The layer that Grad-CAM reads: the last spatial feature map that the logits depend on."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor, nn

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.image_response import keeps_token_order, noise_like, placed
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import ModuleCall, record_calls
from saliencykit.networks.module_layers import WITHOUT_LAYERS, module_of, torchscript_hint
from saliencykit.networks.structure_cache import StructureCache
from saliencykit.networks.tolerance import close_to_rounding

# of positions with a gradient: a class token's own map has one, pooled maps all
_MIN_FRACTION = 0.5
_SMALL = 64  # pixels: networks for such images have maps of more than half their side

_cache: StructureCache[FeatureMap] = StructureCache()
"""The layer of a model and an image size: it depends on these alone, and takes a few queries."""


def find_target_layer(
    black_box: BlackBox, images: Images, layer: str | None = None, *, repeated: bool = True
) -> FeatureMap:
    """Find the layer whose activations Grad-CAM uses, by recording one forward pass on noise.

    It is the last layer (in the order in which they end) such that

    - its output is a map of the image: channels first, channels last, or tokens with a grid among
      them;
    - the logits have a gradient at more than half of the map's positions. After the last attention
      of a transformer that reads a class token the other tokens no longer count, so there the layer
      is the norm before that attention. Only where no layer has that many, as with global max
      pooling, it is the last map with any gradient;
    - it is no pooling (which loses position), no map of the logits themselves, and none of
      attention's own projections;
    - its tokens are in the order of the image: a change in a corner of the image changes that
      corner of the map.

    Only the image size matters, so the layer is searched once per model and size, and cached until
    the model's layers change.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), as the black box takes them; only shape, dtype and device count.
        layer: The dotted name of a layer to use instead, as in `model.named_modules()`.
        repeated: May it be one of several calls of a layer, as of a shared ReLU?

    Returns:
        The layer's name, layout and grid: `read_feature_maps(black_box, images, [feature_map])`
        gives its maps, `logits_and_activations` also their gradients.

    Raises:
        InputError: The black box has no torch module; no layer qualifies; or the named layer does
            not exist or has no map.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)
        ... )
        >>> feature_map = find_target_layer(TorchBlackBox(net), torch.rand(2, 3, 16, 16))
        >>> feature_map.name, feature_map.layout, feature_map.side
        ('1', 'maps', (7, 7))

    References:
        Selvaraju et al. 2017, "Grad-CAM", section 3: the last convolutional layers are the best
        compromise between semantics and spatial detail.
    """
    module = module_of(black_box, WITHOUT_LAYERS)
    key = (layer, repeated, *images.shape[1:])
    known = _cache.of(black_box.source_module or module)
    if key not in known:
        probe = noise_like(images)
        known[key] = (
            _named(black_box, probe, layer) if layer else _search(black_box, probe, repeated)
        )
    return placed(black_box, known[key], images)


def _search(black_box: BlackBox, probe: Images, repeated: bool) -> FeatureMap:
    with torch.enable_grad():
        logits, calls = record_calls(black_box, probe.clone().requires_grad_(), repeated=repeated)
        direction = rng.normal(
            logits[:, :1, None, None], logits.shape[1:], generator=Generator().manual_seed(1)
        )
        score = (logits * direction).sum()  # of all classes: no label decides about the layer
    unordered, sparse = [], None
    for feature_map, call in _candidates(black_box, logits.detach(), calls, probe):
        fraction = _fraction_with_gradient(score, feature_map, call, probe)
        if fraction <= _MIN_FRACTION:
            if sparse is None and fraction > 0 and feature_map.layout != "tokens":
                sparse = feature_map
        elif feature_map.layout != "tokens" or keeps_token_order(black_box, feature_map, probe):
            return feature_map
        else:
            unordered.append(feature_map.name)
    if sparse is not None:
        return sparse
    if not black_box.differentiable:
        raise InputError(
            f"layers are chosen by their gradients, and {name_of(black_box.module)} has none, as "
            "models have that compute with integers. Name one with layer=..., or write "
            "masker='rise' or masker='occlusion', which only query the model."
        )
    why = "passes a gradient from the logits to a spatial feature map"
    if unordered:
        why = f"keeps its tokens in the order of the image (not so: {', '.join(unordered[:3])})"
    raise InputError(
        f"no layer of {name_of(black_box.module)} {why}, at {probe.shape[2]} x {probe.shape[3]} "
        "pixels. Name one with layer=..., give a larger image, or use "
        f"{WITHOUT_LAYERS}.{torchscript_hint(module_of(black_box))}"
    )


def _candidates(
    black_box: BlackBox, logits: Logits, calls: Sequence[ModuleCall], probe: Images
) -> Iterator[tuple[FeatureMap, ModuleCall]]:
    """Layers from the last to the first; linear layers (attention projections) at the end."""
    pooled = {
        id(call.output)  # by identity: a container returns the output of its last layer
        for call in calls
        if "Pool" in name_of(call.module) and not list(call.module.parameters())
    }
    projections = []
    found = {
        id(call): feature_map for feature_map, call in feature_maps_in(black_box, calls, probe)
    }
    for call in reversed(calls):
        feature_map = found.get(id(call)) or _fine_map(call, probe, named=False)
        if feature_map is None or not call.output.requires_grad or id(call.output) in pooled:
            continue
        values = feature_map.read(call.output.detach(), probe.shape[2:])
        if feature_map.channels == logits.shape[1] and any(
            close_to_rounding(each.mean((2, 3)), logits) for each in (values, values.relu())
        ):
            continue
        if isinstance(call.module, nn.Linear):  # queries, keys, values, the inside of an MLP
            projections.append((feature_map, call))
        else:
            yield feature_map, call
    yield from projections


def _fine_map(call: ModuleCall, probe: Images, *, named: bool) -> FeatureMap | None:
    """A map of more than half the image's side, channels first, in small images or where the user
    named the layer.
    """
    size, shape = (probe.shape[2], probe.shape[3]), call.output.shape
    copied = name_of(call.module).startswith(("Dropout", "DropPath", "Softmax", "Identity"))
    fine = len(shape) == 4 and (named or max(size) <= _SMALL)
    if fine and not copied and len(probe) == shape[0]:
        h, w = shape[2:]
        same_aspect = abs(w - size[1] * (h / size[0])) <= 1
        if 2 <= h <= size[0] and 2 <= w <= size[1] and same_aspect:
            which = (call.index, call.times)
            return FeatureMap(call.name, "maps", shape[1], (h, w), 0, 0, *which, size)
    return None


def _fraction_with_gradient(
    score: Tensor, feature_map: FeatureMap, call: ModuleCall, probe: Images
) -> float:
    """The fraction of the map's positions where the score has a gradient."""
    try:
        (grad,) = torch.autograd.grad(score, call.output, retain_graph=True, allow_unused=True)
    except RuntimeError:  # the backward pass needs something that was overwritten
        return 0.0
    if grad is None:
        return 0.0
    moves = (feature_map.read(grad, probe.shape[2:]) != 0).any(1)
    return float(moves.float().mean())


def _named(black_box: BlackBox, probe: Images, layer: str) -> FeatureMap:
    module = module_of(black_box)
    with torch.no_grad():
        _, calls = record_calls(black_box, probe)
    own = [call for call in calls if call.name == layer]
    maps = feature_maps_in(black_box, calls, probe)
    for call in own:
        found = next((each for each, other in maps if other is call), None)
        if (feature_map := found or _fine_map(call, probe, named=True)) is not None:
            if feature_map.layout != "tokens" or keeps_token_order(black_box, feature_map, probe):
                return feature_map
            raise InputError(
                f"the tokens of layer={layer!r} of {name_of(module)} are not in the order of the "
                "image, so they give no map of it. Name another with layer=..., or write "
                "masker='iterative' or masker='rise', which need no layer."
            )
    if layer not in [name for name, _ in module.named_modules() if name]:
        what = "is not one of its layers"
    elif own:
        what = f"returns {tuple(own[0].output.shape)}, which is not a map of the image"
    else:
        what = "does not return one tensor in one call per forward pass"
    names = [each.name for each, _ in maps if each.name.count(".") < 2]
    raise InputError(
        f"layer={layer!r} of {name_of(module)} {what}. Some that have spatial feature maps, the "
        f"last first: {', '.join(map(repr, reversed(names))) or 'none'}."
    )
