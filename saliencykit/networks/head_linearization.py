"""Linearizing a classifier: class weights as the mean gradient of each logit at a feature map.

References:
    Selvaraju et al. 2017, "Grad-CAM", equation 1.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import logits_and_activations
from saliencykit.networks.module_calls import ModuleCall, one_call
from saliencykit.networks.module_layers import module_of

_NUM_IMAGES = 4
# classes times weights after the map: with more, linearizing takes too long
_MAX_LINEARIZED = 10**10


def linearize(
    black_box: BlackBox,
    images: Images,
    feature_maps: Sequence[FeatureMap],
    calls: Sequence[ModuleCall],
) -> tuple[FeatureMap, Tensor, Tensor]:
    """The last map all of whose positions reach the logits, class weights (K, C) and biases (K,).

    Where that would take too long (many classes, large layers) the weights are random.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W); the first four are used.
        feature_maps: Candidates, in the order in which they are computed.
        calls: All recorded calls.

    Raises:
        InputError: No gradient flows from the logits to any of the maps.
    """
    module = module_of(black_box)
    images = one_call(black_box, images, _NUM_IMAGES)
    for feature_map in reversed(feature_maps):
        try:
            logits, leaves = logits_and_activations(black_box, images, feature_map)
        except GradientError:
            continue
        if len(leaves) != 1:
            continue
        classes = logits.shape[1]
        gradient = partial(_gradient, feature_map, leaves[0], logits.float(), images)
        last = gradient(-1)  # the first logit of a sigmoid is a constant 0
        if bool(((last != 0).any(1).float().mean() < 0.5).cpu()):
            continue  # only a class token reaches the logits
        if _weights_after(feature_map, calls) * classes > _MAX_LINEARIZED:
            generator, shape = torch.Generator().manual_seed(0), (classes, feature_map.channels)
            random = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
            weight = (random / feature_map.channels**0.5).to(last)
            return feature_map, weight, last.new_zeros(classes)
        rows = [gradient(column).sum((2, 3)).mean(0) for column in range(classes)]
        weight = torch.stack(rows).float()
        pooled = feature_map.read(leaves[0].detach(), images.shape[2:]).mean((2, 3)).float()
        bias = (logits.detach().float() - pooled @ weight.T).mean(0)
        return feature_map, weight, bias
    raise InputError(
        f"no layer of {type(module).__name__} passes a gradient from the logits to a spatial "
        "feature map; use encoder='own'."
    )


def _gradient(
    feature_map: FeatureMap, leaf: Tensor, logits: Logits, images: Images, column: int
) -> Tensor:
    """The gradient of one logit, summed over the batch, with respect to a feature map."""
    with torch.enable_grad():  # the caller may have turned it off
        (grad,) = torch.autograd.grad(logits[:, column].sum(), leaf, retain_graph=True)
    return feature_map.read(grad, images.shape[2:])


def _weights_after(feature_map: FeatureMap, calls: Sequence[ModuleCall]) -> int:
    names = [call.name for call in calls]
    later = calls[names.index(feature_map.name) + 1 :]
    parameters = [p for call in later for p in call.module._parameters.values() if p is not None]
    return sum({id(p): p.numel() for p in parameters}.values())
