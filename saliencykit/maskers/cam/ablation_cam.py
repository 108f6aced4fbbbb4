"""Ablation-CAM: a feature map, each channel weighted by what the logit loses without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images
from saliencykit.maskers.cam.class_activation_map import ClassActivationMap, LayerInput
from saliencykit.networks.classifier_head import ClassifierHead, pooled_classifier_head
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.forward_hooks import hooked
from saliencykit.networks.layer_activations import ActivationRecorder
from saliencykit.networks.partial_network import network_after
from saliencykit.networks.target_layer import find_target_layer


@final
@dataclass(frozen=True, kw_only=True)
class AblationCam(ClassActivationMap):
    """The channels of a feature map, each weighted by the fraction of the logit that is lost
    without it.

    `attributions = sum over k of (y - y_k) / |y| * A_k`, with the label's logit `y`, and `y_k`
    without channel k. Like Grad-CAM, with the whole effect of a channel instead of a slope: no
    gradients, no saturation. As coarse as the feature map.

    For a head that pools and then is linear, `y - y_k` is the channel's mean times its weight (and
    a ReLU in between can be applied again), so one forward pass gives all channels exactly.
    Otherwise the part of the model after the layer runs once for every channel that is not zero.

    The mask is the positive part of the attributions divided by their maximum. The published
    denominator is `y`, which would flip the sign of the map for a class with a negative logit; with
    `|y|` it does not, and for a positive logit the mask is the same.

    Args:
        layer: See `ClassActivationMap`. None: the feature map that the head pools, or else the
            layer that Grad-CAM uses.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`; or the logits do not depend on the layer alone.

    Example:
        >>> from torch import Generator, nn
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> trunk = (nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten())
        >>> net = nn.Sequential(*trunk, nn.Linear(1800, 4))
        >>> black_box, images = TorchBlackBox(net, size=32), torch.rand(2, 3, 32, 32)
        >>> AblationCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 32, 32])

    References:
        Ramaswamy & Desai 2020, "Ablation-CAM: Visual Explanations for Deep Convolutional Network
        via Gradient-free Localization", section 3, equations 3 and 4.
    """

    def feature_maps(self, black_box: BlackBox, images: Images) -> Sequence[FeatureMap]:
        """The named layers; or the feature map that the head pools, or that Grad-CAM uses."""
        head = _head(black_box, images) if self.layer is None else None
        if head is not None:
            return [head.feature_map]
        names = self.layer_names
        return [find_target_layer(black_box, images, name, repeated=False) for name in names]

    def layer_map(self, layer: LayerInput) -> tuple[Tensor, None]:
        """The sum of the channels, weighted by what the logit loses without them."""
        head = _head(layer.black_box, layer.images)
        if head is not None and layer.feature_map.name == head.feature_map.name:
            return _in_one_pass(layer, head), None
        return _channel_by_channel(layer), None


def _head(black_box: BlackBox, images: Images) -> ClassifierHead | None:
    return None if black_box.module is None else pooled_classifier_head(black_box, images)


def _in_one_pass(layer: LayerInput, head: ClassifierHead) -> Tensor:
    """For a linear head: the drops follow from the feature map alone."""
    (logits, maps), classes = layer.read(), layer.labels
    logit = logits.gather(1, classes[:, None]).to(maps)
    weight, bias = head.weight.to(maps)[classes], head.bias.to(maps)[classes, None]
    # evidence at each position; its mean is the logit
    evidence = torch.einsum("bkhw,bk->bhw", maps, weight) + bias[:, :, None]
    linear, rectified = (each.mean((1, 2))[:, None] for each in (evidence, evidence.relu()))
    drops = maps.mean((2, 3)) * weight
    if bool(((rectified - logit).abs() < (linear - logit).abs()).any()):
        # a ReLU comes before the pooling: apply it again without each channel
        without = evidence[:, None] - weight[:, :, None, None] * maps
        drops = rectified - without.relu().mean((2, 3))
    return _weighted(maps, drops, logit)


def _channel_by_channel(layer: LayerInput) -> Tensor:
    """For any model: run the part after the layer without each channel."""
    black_box, images, feature_map = layer.black_box, layer.images, layer.feature_map
    partial_network, attributions = network_after(black_box, images[:1], feature_map), []
    for image, label in zip(images[:, None], layer.labels[:, None], strict=True):
        recorder = ActivationRecorder()
        with hooked(black_box, [feature_map.name], recorder.hook) as own:
            own(image)
        output = torch.cat(recorder.outputs[feature_map.name])
        maps = feature_map.read(output, image.shape[2:])
        partial_network.use_tokens(output)
        logit = partial_network(maps, image.shape[1:])[:, label]
        drops = maps.new_zeros(maps.shape[:2])
        active = (maps[0] != 0).flatten(1).any(1).nonzero().flatten()
        for some in torch.split(active, micro_batch(partial_network.black_box)):
            kept = maps.new_ones(len(some), maps.shape[1])
            kept[torch.arange(len(some), device="cpu"), some] = 0
            without = partial_network(maps * kept[:, :, None, None], image.shape[1:])[:, label[0]]
            drops[0, some] = (logit[0] - without).to(drops)
        attributions.append(_weighted(maps, drops, logit.to(maps)))
    return torch.cat(attributions)


def _weighted(maps: Tensor, drops: Tensor, logit: Tensor) -> Tensor:
    weights = drops / logit.abs().clamp_min(torch.finfo(maps.dtype).eps)
    return torch.einsum("bkhw,bk->bhw", maps, weights)[:, None]
