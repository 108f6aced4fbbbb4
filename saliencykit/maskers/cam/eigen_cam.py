"""Eigen-CAM: the first principal component of a feature map."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.maskers.cam.class_activation_map import ROUNDING, ClassActivationMap, LayerInput


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
        >>> from torch import Generator
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> EigenCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Muhammad & Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components",
        section III.
    """

    def layer_map(self, layer: LayerInput) -> tuple[Tensor, Tensor]:
        """The projection, and the size of rounding noise in it."""
        _, maps = layer.read()
        rows = torch.stack([first_component(each) for each in maps])[:, None]
        return rows, maps.flatten(1).abs().amax(1) * ROUNDING


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
