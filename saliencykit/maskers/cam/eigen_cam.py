"""Eigen-CAM: the first principal component of a feature map."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.cam.class_activation_map import ROUNDING, ClassActivationMap
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import read_feature_maps


@final
@dataclass(frozen=True, kw_only=True)
class EigenCam(ClassActivationMap):
    """The projection of a layer's output at each position on its first principal component.

    It needs neither a label nor gradients, and is the same for all labels: it shows what the
    network sees rather than what speaks for a class. The sign, which a principal component does not
    have, is the one with which positions of large activations are positive.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> EigenCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Muhammad & Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components",
        section III.
    """

    def layer_map(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        feature_map: FeatureMap,
        generator: Generator,
    ) -> tuple[Tensor, Tensor]:
        """The projection, and the size of rounding noise in it."""
        maps = [
            read_feature_maps(black_box, some, [feature_map])[1][0].detach()
            for some in torch.split(images, micro_batch(black_box))
        ]
        rows = [first_component(each) for each in torch.cat(maps)]
        floor = torch.cat(maps).flatten(1).abs().amax(1) * ROUNDING
        return torch.stack(rows).to(images.dtype)[:, None], floor.to(images.dtype)


def first_component(maps: Tensor) -> Tensor:
    """The projection of the vectors at the positions of (C, h, w) on their first principal
    component, (h, w).
    """
    vectors = maps.flatten(1).T.double().cpu()
    centered = vectors - vectors.mean(0)
    # the smaller of the two matrices with the same eigenvalues
    wide = centered.shape[1] > centered.shape[0]
    matrix = centered @ centered.T if wide else centered.T @ centered
    values, directions = torch.linalg.eigh(matrix)
    first = directions[:, -1]
    scores: Tensor = first * values[-1].clamp_min(0).sqrt() if wide else centered @ first
    sizes = vectors.square().sum(1)
    scores = -scores if (scores * (sizes - sizes.mean())).sum() < 0 else scores
    return scores.view(maps.shape[1:]).to(maps)
