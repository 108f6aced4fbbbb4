"""XGrad-CAM: a feature map, weighted by gradients averaged with the activations as weights."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.maskers.cam.class_activation_map import ROUNDING
from saliencykit.maskers.cam.gradient_weighting import GradientWeighting


@final
@dataclass(frozen=True, kw_only=True)
class XGradCam(GradientWeighting):
    """The channels of a late layer, each weighted by the mean gradient where the channel is active.

    The weight of channel k is `sum of g * A_k / sum of A_k` over the positions: the weights for
    which the map, in a network of ReLUs, comes closest to adding up to the logit, and to losing
    what the logit loses without a channel. Equal to Grad-CAM, up to a factor, where mean pooling
    follows the layer.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> XGradCam().layer_names
        [None]

    References:
        Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of
        CNNs", section 3, equation 8.
    """

    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Each channel times its weighted mean gradient; a channel whose sum is 0 adds nothing."""
        total, size = (each.sum((2, 3), keepdim=True) for each in (maps, maps.abs()))
        product = (gradient * maps).sum((2, 3), keepdim=True)
        return torch.where(total.abs() > ROUNDING * size, product / total, 0) * maps
