"""HiResCAM: a feature map times the gradient at each position."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from saliencykit.maskers.cam.gradient_weighting import GradientWeighting


@final
@dataclass(frozen=True, kw_only=True)
class HiResCam(GradientWeighting):
    """A layer's output times the gradient of the logit at it, summed over the channels.

    Without Grad-CAM's mean over positions: where the rest of the network is linear, as it is for a
    linear head even without pooling, the map sums to the logit, less its bias. Equal to Grad-CAM,
    up to a factor, where mean pooling follows the layer.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> head = nn.Linear(8 * 49, 4)
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), head)
        >>> images, labels = torch.rand(2, 3, 16, 16), torch.tensor([0, 3])
        >>> output = HiResCam().mask(TorchBlackBox(net, size=16), images, labels, torch.Generator())
        >>> logits = output.attributions.sum((1, 2, 3)) + head.bias[labels]
        >>> torch.allclose(logits, net(images)[[0, 1], labels], atol=1e-5)
        True

    References:
        Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for Faithful Explanations of
        Convolutional Neural Networks", section 3.3.
    """

    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Activations times gradients."""
        return gradient * maps
