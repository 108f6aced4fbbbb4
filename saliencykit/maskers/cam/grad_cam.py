"""Grad-CAM: a late feature map, weighted by the gradient of the label's logit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import GradientError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import NONFINITE_HINT, mask_from_attributions
from saliencykit.networks.layer_activations import logits_and_activations
from saliencykit.networks.target_layer import find_target_layer

# of the largest activation times the sum of the weights: smaller maps are rounding noise
_ROUNDING = 1e-6


@final
@dataclass(frozen=True, kw_only=True)
class GradCam(Masker):
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
        layer: Dotted name of another layer, such as `layer3`. It must have spatial feature maps.

    Raises:
        InputError: The black box does not expose submodules, no layer qualifies, or the given one
            does not.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> from torch import nn
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
        >>> black_box, images = TorchBlackBox(net, size=16), torch.rand(2, 3, 16, 16)
        >>> GradCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks", section 3,
        equations 1 and 2.
    """

    layer: str | None = None

    needs_gradient: ClassVar[bool] = True

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The weighted sum at the resolution of the layer, and its positive part as the mask."""
        feature_map = find_target_layer(black_box, images, self.layer)
        logits, leaves = logits_and_activations(black_box, images, feature_map)
        with torch.enable_grad():
            total = logits.gather(1, labels[:, None]).sum()
        gradients = torch.autograd.grad(total, leaves)
        maps, gradient = (
            feature_map.read(_joined(parts), images.shape[2:]) for parts in (leaves, gradients)
        )
        if bad := checks.finite_rows(gradient):
            raise GradientError(
                f"GradCam: the gradient at {feature_map.name!r} is NaN or infinite in row {bad[0]} "
                f"of {len(images)}; {NONFINITE_HINT}"
            )
        with torch.no_grad():
            weights = gradient.mean((2, 3), keepdim=True)
            attributions = (weights * maps).sum(1, keepdim=True).to(images.dtype)
            floor = weights.abs().sum((1, 2, 3)) * maps.abs().amax((1, 2, 3)) * _ROUNDING
            mask = mask_from_attributions(attributions, floor.to(attributions.dtype))
            return MaskerOutput(mask, attributions)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].detach() if len(parts) == 1 else torch.cat([part.detach() for part in parts])
