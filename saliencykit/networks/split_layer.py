"""Where to cut a classifier for late mixing."""

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.feature_maps import Call, as_feature_map, at_once, module_of, record_calls
from saliencykit.networks.partial_network import PartialNetwork

__all__ = ["PartialNetwork", "choose_split_layer"]

_EARLY = 0.45  # of the multiplications: mixing later costs less and agrees less with mixing pixels
_FINE, _FINER = 17, 9  # a layer's side is at least 1/17 of the picture's (transformers), better 1/9
_TRIES = 40
_CLOSE = 1e-3


def choose_split_layer(black_box: BlackBox, images: Images) -> PartialNetwork | None:
    """The latest good place to cut a classifier at: at most 45 % of its multiplications before it,
    verified.

    Late mixing: instead of composing pixels and running the whole network, `M * features(X) + (1 -
    M) * features(A)` is formed at an early layer and only the rest runs. On a CPU it is what makes
    training quick. It is an approximation (kept and dropped log-probabilities correlate at 0.7 to
    0.9 with those of composed pictures, and are too low), so training ends with those.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), B >= 2, as the box takes them.

    Returns:
        None where there is no such layer (dense connections, an architecture that runs its own
        way).
    """
    images = at_once(black_box, images, 2)
    with torch.no_grad():
        logits, calls = record_calls(black_box, images)
    total = sum(map(_multiplications, calls))
    done, places = 0, []
    for call in calls:
        done += _multiplications(call)
        feature_map = as_feature_map(call, images)
        if (
            feature_map is not None
            and done <= _EARLY * total
            and feature_map.side[0] * _FINE >= images.shape[2]
        ):
            places.append(
                (feature_map, feature_map.read(call.output[:1], images.shape[2:]).detach())
            )
    places = [place for place in places if place[0].side[0] * _FINER >= images.shape[2]] or places
    small = 2 * min((maps.numel() for _, maps in places[len(places) // 2 :]), default=0)
    for feature_map, maps in reversed(
        [place for place in places if place[1].numel() <= small][-_TRIES:]
    ):
        copy = black_box.optimized_for(images)
        if copy is black_box or module_of(copy) is module_of(black_box):
            return None
        try:
            partial_network = PartialNetwork(copy, feature_map, calls)
            with torch.no_grad():
                again = partial_network(maps, images.shape[1:])
        except Exception:  # a layer that cannot do without the ones before it
            continue
        scale = (logits.amax() - logits.amin()).clamp_min(1e-12)
        if again.shape == logits[:1].shape and bool(
            (again - logits[:1]).abs().max() <= _CLOSE * scale
        ):
            partial_network.forget_picture(calls)
            return partial_network
    return None


def _multiplications(call: Call) -> int:
    weight = getattr(call.module, "weight", None)
    if (
        not isinstance(call.module, nn.Conv2d | nn.Linear)
        or not isinstance(weight, Tensor)
        or not weight.numel()
    ):
        return 0
    return call.output.numel() * weight[0].numel()
