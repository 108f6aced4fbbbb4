"""Where to split a classifier for feature mixing."""

from math import prod

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import ModuleCall, one_call, record_calls
from saliencykit.networks.partial_network import PartialNetwork, checked_network
from saliencykit.networks.private_copy import with_private_module

_EARLY = 0.45  # of the multiplications: mixing later costs less and agrees less with mixing pixels
# a layer's side is at least 1/17 of the image's (transformers), better 1/9
_STRIDE, _BETTER_STRIDE = 17, 9
_TRIES = 40


def choose_split_layer(black_box: BlackBox, images: Images) -> PartialNetwork | None:
    """The network after the best split layer: the latest one with at most 45 % of the
    multiplications before it that splits the network cleanly.

    Feature mixing: instead of composing pixels and running the whole network, `M * features(X) +
    (1 - M) * features(A)` is formed at an early layer, and only the layers after it run. On a CPU
    this makes training fast. It is an approximation (kept and dropped log-probabilities correlate
    at 0.7 to 0.9 with those of composed images, and are too low), so training ends with pixels.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), B >= 2, as the black box takes them.

    Returns:
        None where there is no such layer (dense connections, an unusual forward pass).
    """
    images = one_call(black_box, images, 2)
    with torch.no_grad():
        logits, calls = record_calls(black_box, images)
    total = sum(map(_multiplications, calls))
    found = {layer.name: layer for layer, _ in feature_maps_in(black_box, calls, images)}
    done, layers = 0, []
    for call in calls:
        done += _multiplications(call)
        layer = found.get(call.name)
        if layer and done <= _EARLY * total and layer.side[0] * _STRIDE >= images.shape[2]:
            layers.append((layer, call, prod(layer.side) * layer.channels))
    fine = [each for each in layers if each[0].side[0] * _BETTER_STRIDE >= images.shape[2]]
    layers = fine or layers
    largest = 2 * min((values for *_, values in layers[len(layers) // 2 :]), default=0)
    small = [(layer, call) for layer, call, values in layers if values <= largest]
    optimized = black_box.optimized_for(images)
    if with_private_module(optimized) is optimized:
        return None
    for layer, call in reversed(small[-_TRIES:]):
        given = (optimized, layer, calls, call.output[:1], images[:1], logits[:1])
        if (network := checked_network(*given)) is not None:
            network.use_tokens(call.output.detach().mean(0, keepdim=True))
            return network
    return None


def _multiplications(call: ModuleCall) -> int:
    weight = getattr(call.module, "weight", None)
    dense = isinstance(call.module, nn.Conv2d | nn.Linear)
    if not dense or not isinstance(weight, Tensor) or not weight.numel():
        return 0
    return call.output.numel() * weight[0].numel()
