"""Score-CAM: a late feature map, each channel weighted by the logit under it as a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.map_placement import place_maps
from saliencykit.core.types import Mask
from saliencykit.maskers.cam.class_activation_map import ROUNDING, ClassActivationMap, LayerInput
from saliencykit.maskers.query_engine import MaskedQueries, masked_queries
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import read_feature_maps

_BASELINE = Constant(color="zero")


@final
@dataclass(frozen=True, kw_only=True)
class ScoreCam(ClassActivationMap):
    """The channels of a late layer used as masks, summed with the softmax of the label's logits
    under them as weights.

    `attributions = sum over channels k of alpha_k * A_k`, `alpha = softmax over k of
    z_c(X * H_k + fill * (1 - H_k))`, where `A_k` is the k-th channel and `H_k` the same, upsampled
    to the image and scaled to [0, 1]. The logit of the fill alone, which the paper subtracts, is
    the same for all channels and cancels in the softmax.

    It needs no gradients, so neither saturation nor noisy slopes mislead it, and it is as coarse as
    Grad-CAM. The softmax makes it selective: a few channels carry the sum. One query per channel,
    1280 for MobileNetV2 and 2048 for ResNet-50.

    The mask is the positive part of the attributions divided by their maximum, as published.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.
        channels: Maximum number of channels, >= 1: those that vary most over the positions, chosen
            per image; the softmax is over these. None: all of them, as published.
        alternative: What replaces pixels where a channel is low. By default the color that the
            model's normalization maps to 0, as in the authors' product of channel and normalized
            image. A random one (noise, a choice) is drawn once per image.

    Raises:
        InputError: A number is out of range; or see `ClassActivationMap`.

    Example:
        >>> from torch import Generator, nn
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> trunk = (nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten())
        >>> net = nn.Sequential(*trunk, nn.Linear(392, 4))
        >>> black_box, images = TorchBlackBox(net, size=16), torch.rand(2, 3, 16, 16)
        >>> ScoreCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
        Networks", section 3, equations 8 to 10, and algorithm 1.
    """

    channels: Annotated[int | None, "[1, inf)"] = None
    alternative: Alternative = _BASELINE

    def layer_map(self, layer: LayerInput) -> tuple[Tensor, Tensor]:
        """The sum of the channels, weighted by the softmax of the logits under them."""
        given = layer.black_box, layer.images, layer.labels, self.alternative, layer.generator
        maps = [self._explained(each, layer.feature_map) for each in masked_queries(*given)]
        attributions, floors = zip(*maps, strict=True)
        return torch.stack(attributions), torch.stack(floors)

    def _explained(self, queries: MaskedQueries, feature_map: FeatureMap) -> tuple[Tensor, Tensor]:
        """The weighted sum for one image, (1, h, w), and the size of rounding noise in it, ()."""
        image = queries.image
        _, (maps,) = read_feature_maps(queries.black_box, image, [feature_map])
        maps = maps[0].to(image.dtype)
        channels = _most_varied(maps, self.channels)[:, None]

        def masks(part: slice) -> Mask:
            return scaled_masks(channels[part], image.shape[2:], feature_map.offset)

        logits = queries.logits(len(channels), masks)[:, queries.label]
        weights = logits.softmax(0)[..., None, None]
        return (weights * channels).sum(0), maps.abs().amax() * ROUNDING


def scaled_masks(
    maps: Tensor, size: Sequence[int], offset: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """`H`: maps (n, 1, h, w) upsampled bilinearly to `size`, each scaled to [0, 1]; a constant map
    becomes 0.
    """
    large = place_maps(maps, size, offset)
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    return ((large - low) / (high - low).clamp_min(torch.finfo(large.dtype).tiny)).clamp_max(1)


def _most_varied(maps: Tensor, count: int | None) -> Tensor:
    """The `count` maps of (n, h, w) with the largest variance over the positions, in order."""
    if count is None or count >= len(maps):
        return maps
    variance = maps.flatten(1).var(1, correction=0)
    return maps[variance.argsort(descending=True, stable=True)[:count].sort().values]
