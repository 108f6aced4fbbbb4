"""CAM: the class weights of a linear head, applied to the last feature map."""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images
from saliencykit.maskers.cam.class_activation_map import ClassActivationMap, LayerInput
from saliencykit.networks.classifier_head import ClassifierHead, pooled_classifier_head
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.module_layers import WITHOUT_LAYERS, another_masker, module_of


@final
@dataclass(frozen=True, kw_only=True)
class Cam(ClassActivationMap):
    """Class activation map: what each position of the last feature map adds to the label's logit.

    `attributions(x, y) = sum over k of w_ck A_k(x, y)`, where `A` is the feature map that the head
    pools and `w_c` its weights for the class: their mean plus the bias *is* the logit. One forward
    pass, no gradients, exact, and as coarse as the feature map (7 x 7 for 224 px). Only for heads
    that pool and then apply one linear layer, or a 1x1 convolution and then pool (a ReLU in between
    is ignored). Grad-CAM extends it to other heads; for a linear head Grad-CAM is the positive part
    of this map divided by the number of positions.

    The mask is the positive part of the attributions divided by their maximum.

    Args:
        scales: See `ClassActivationMap`.

    Raises:
        InputError: The black box does not expose submodules, or its model has no such head.

    Example:
        >>> from torch import Generator, nn
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> conv, head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 4)
        >>> net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        >>> images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 3])
        >>> output = Cam().mask(TorchBlackBox(net, size=32), images, labels, Generator())
        >>> logits = output.attributions.mean((1, 2, 3)) + head.bias[labels]
        >>> torch.allclose(logits, net(images)[[0, 1], labels], atol=1e-5)
        True

    References:
        Zhou, Khosla, Lapedriza, Oliva & Torralba 2016, "Learning Deep Features for Discriminative
        Localization", section 2, equation 2.
    """

    layer: None = field(default=None, init=False, repr=False)

    def feature_maps(self, black_box: BlackBox, images: Images) -> list[FeatureMap]:
        """The feature map that the head pools."""
        return [_head(black_box, images).feature_map]

    def layer_map(self, layer: LayerInput) -> tuple[Tensor, None]:
        """The sum of the channels, weighted by the head."""
        _, maps = layer.read()
        weights = _head(layer.black_box, layer.images).weight.to(maps)[layer.labels]
        return torch.einsum("bkhw,bk->bhw", maps, weights)[:, None], None


def _head(black_box: BlackBox, images: Images) -> ClassifierHead:
    module = module_of(black_box, WITHOUT_LAYERS)
    if black_box.target is not None:
        raise InputError(
            "Cam weights a feature map with the head's weights of a class, and a target is "
            f"explained here. Use {another_masker(black_box)}, which works with any target."
        )
    head = pooled_classifier_head(black_box, images)
    if head is None:
        raise InputError(
            "Cam needs a head of pooling and one linear layer, and the head of "
            f"{name_of(module)} is different. Use {another_masker(black_box)}, which "
            "works with any head."
        )
    return head
