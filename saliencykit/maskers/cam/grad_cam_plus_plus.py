"""Grad-CAM++: a feature map, weighted by positive gradients with weights of their own."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.maskers.cam.gradient_weighting import GradientWeighting


@final
@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(GradientWeighting):
    """The channels of a late layer, each weighted by a weighted sum of the logit's positive
    gradients.

    The weight of channel k is `sum over positions of alpha * relu(g)`, with the gradient g and
    `alpha = g^2 / (2 g^2 + g^3 * sum over positions of A_k)`: positions count alike however large
    the object is, so that several objects of a class show better than in Grad-CAM. All weights are
    positive, and therefore the map also shows what speaks for other classes.

    `alpha` comes from `exp(logit)` and activations >= 0; where the denominator is not positive, as
    it may be with other activations than ReLUs, it counts as 0.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> from torch import Generator
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> GradCamPlusPlus()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Chattopadhyay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual Explanations for
        Deep Convolutional Networks", section 3, equations 5, 7 and 19.
    """

    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Each channel times the sum of its positive gradients, weighted by alpha."""
        # g^2 cancels; where g is 0, so is the summand
        denominator = 2 + gradient * maps.sum((2, 3), keepdim=True)
        summands = torch.where(denominator > 0, gradient.clamp_min(0) / denominator, 0)
        return summands.sum((2, 3), keepdim=True) * maps
