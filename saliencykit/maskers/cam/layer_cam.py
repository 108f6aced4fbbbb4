"""LayerCAM: a feature map, weighted at each position by the positive gradient there."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from saliencykit.maskers.cam.gradient_weighting import GradientWeighting


@final
@dataclass(frozen=True, kw_only=True)
class LayerCam(GradientWeighting):
    """Each position of a layer's channels times the positive part of the gradient there, summed.

    Unlike a mean gradient this also holds for shallow layers, whose maps are finer: name some with
    `layer=`. As all weights are positive, the map also shows what speaks for other classes.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: See `ClassActivationMap`.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> LayerCam(layer=("layer3", "layer4")).layer_names
        ('layer3', 'layer4')

    References:
        Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for
        Localization", section III, equations 5 to 7.
    """

    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Activations times positive gradients."""
        return gradient.clamp_min(0) * maps
