"""Grad-CAM: a late feature map, weighted by the gradient of the label's logit."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from saliencykit.maskers.cam.gradient_weighting import GradientWeighting


@final
@dataclass(frozen=True, kw_only=True)
class GradCam(GradientWeighting):
    """The channels of a late layer, each weighted by the mean gradient of the logit, summed.

    One forward pass, and a backward pass from the logit to that layer only: about as costly as the
    prediction. Coarse, as the layer is (7 x 7 in many networks), and good at localization; of
    several objects it tends to show the whole group. Where the layer is followed by mean pooling
    and one linear layer it is CAM, up to a factor. The layer is chosen automatically for
    convolutional networks, transformers with or without a class token, and hybrids (see
    `target_layer`); tokens are arranged as their grid.

    The mask is the positive part of the attributions divided by their maximum, as published:
    negative values speak for other classes.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> import torch
        >>> from torch import Generator, nn
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> trunk = (nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten())
        >>> net = nn.Sequential(*trunk, nn.Linear(392, 4))
        >>> black_box, images = TorchBlackBox(net, size=16), torch.rand(2, 3, 16, 16)
        >>> GradCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks", section 3,
        equations 1 and 2.
    """

    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Each channel times its mean gradient."""
        return gradient.mean((2, 3), keepdim=True) * maps
