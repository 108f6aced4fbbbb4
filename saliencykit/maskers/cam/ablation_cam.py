"""Ablation-CAM: each channel weighed by what the answer loses without it."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.classifier_head import Head, pooled_head
from saliencykit.networks.feature_maps import (
    ActivationRecorder,
    FeatureMap,
    eager,
    module_of,
    read_feature_maps,
)
from saliencykit.networks.partial_network import network_after
from saliencykit.networks.target_layer import target_layer


@final
@dataclass(frozen=True, kw_only=True)
class AblationCam(Masker):
    """A feature map's channels, each weighed by the share of the label's logit that is lost when it
    is set to zero.

    `scores = sum over k of (y - y_k) / |y| * A_k`, with `y` the label's logit and `y_k` the one
    without channel k. Like Grad-CAM, but with the whole effect of a channel in place of a slope: no
    gradients, and nothing saturates. As coarse as the map.

    Behind the map of a head that pools and then is linear, `y - y_k` is the channel's mean times
    its weight (and a rectifier in between can be applied again without it), so one forward pass
    gives all channels exactly. Elsewhere the part of the model after the layer runs once for each
    channel that is not zero.

    The mask is the positive part of the scores divided by its maximum. The published weight is over
    `y`, which for a class with a negative logit would turn the map over; the size of `y` does not,
    and a positive factor leaves the mask as it is.

    Args:
        layer: The dotted name of the layer whose channels are ablated, as in
            `model.named_modules()`. None: the map that the head pools; elsewhere the layer that
            Grad-CAM reads.

    Raises:
        InputError: The box shows no torch module, the layer is unknown or no map, or the answer
            does not depend on it alone.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> conv, head = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.Linear(8 * 225, 4)
        >>> net = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), head)
        >>> black_box, images = TorchBlackBox(net, size=32), torch.rand(2, 3, 32, 32)
        >>> AblationCam().mask(black_box, images, torch.tensor([0, 3]), Generator()).attributions.shape
        torch.Size([2, 1, 15, 15])

    References:
        Ramaswamy & Desai 2020, "Ablation-CAM: Visual Explanations for Deep Convolutional Network
        via Gradient-free Localization", section 3, equations 3 and 4.
    """

    layer: str | None = None

    def __post_init__(self) -> None:
        """Check the layer's name."""
        if self.layer is not None and not (isinstance(self.layer, str) and self.layer):
            raise InputError(
                f"AblationCam(layer={self.layer!r}) takes a layer's dotted name, such as "
                "'layer4', or None."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The weighed sum of channels, and its positive part as the mask."""
        if black_box.module is None:
            raise InputError(
                "AblationCam takes channels out of a layer of a torch module, and "
                f"{name_of(black_box)} shows none. Use masker='rise' or 'occlusion', which only "
                "ask."
            )
        head = pooled_head(black_box, images)
        if head is not None and self.layer in (None, head.feature_map.name):
            scores = _in_one_pass(black_box, images, labels, head)
        else:
            scores = _channel_by_channel(
                black_box, images, labels, target_layer(black_box, images, self.layer)
            )
        return MaskerOutput(mask_from_attributions(scores), scores)


def _in_one_pass(black_box: BlackBox, images: Images, labels: Labels, head: Head) -> Tensor:
    """What a linear head loses without each channel, from the map alone."""
    found, step = [], micro_batch(black_box)
    for some, asked in zip(torch.split(images, step), torch.split(labels, step), strict=True):
        logits, (maps,) = read_feature_maps(black_box, some, [head.feature_map])
        y = logits.gather(1, asked[:, None]).to(maps)
        weight, bias = head.weight.to(maps)[asked], head.bias.to(maps)[asked, None]
        places = torch.einsum("bkhw,bk->bhw", maps, weight) + bias[:, :, None]
        lost = maps.mean((2, 3)) * weight
        linear = places.mean((1, 2), keepdim=True)[:, :, 0]
        if bool(
            ((places.relu().mean((1, 2))[:, None] - y).abs() < (linear - y).abs()).any()
        ):  # a rectifier before the pooling
            without = [
                places - w[:, None, None] * a
                for a, w in zip(maps.unbind(1), weight.unbind(1), strict=True)
            ]
            lost = torch.stack(
                [
                    places.relu().mean((1, 2)) - partial_network.relu().mean((1, 2))
                    for partial_network in without
                ],
                1,
            )
        found.append(_weighed(maps, lost, y))
    return torch.cat(found).to(images.dtype)


def _channel_by_channel(
    black_box: BlackBox, images: Images, labels: Labels, feature_map: FeatureMap
) -> Tensor:
    """What any model loses without each channel: the part after the layer runs for each."""
    partial_network = network_after(black_box, images[:1], feature_map)
    step = micro_batch(partial_network.black_box)
    found = []
    for image, label in zip(images[:, None], labels[:, None], strict=True):
        listener = ActivationRecorder()
        with eager(black_box), listener.on(module_of(black_box), [feature_map.name]):
            black_box(image)
        output = torch.cat(listener.outputs[feature_map.name])
        maps = feature_map.read(output, image.shape[2:])
        partial_network.follow(output)
        y = partial_network(maps, image.shape[1:])[:, label]
        lost = maps.new_zeros(maps.shape[:2])
        for some in torch.split((maps[0] != 0).flatten(1).any(1).nonzero().flatten(), step):
            kept = torch.ones(len(some), maps.shape[1], dtype=maps.dtype, device=maps.device)
            kept[torch.arange(len(some)), some] = 0
            without = partial_network(maps * kept[:, :, None, None], image.shape[1:])[:, label[0]]
            lost[0, some] = (y[0] - without).to(lost)
        found.append(_weighed(maps, lost, y.to(maps)))
    return torch.cat(found).to(images.dtype)


def _weighed(maps: Tensor, lost: Tensor, y: Tensor) -> Tensor:
    weights = lost / y.abs().clamp_min(torch.finfo(maps.dtype).eps)
    return torch.einsum("bkhw,bk->bhw", maps, weights)[:, None]
