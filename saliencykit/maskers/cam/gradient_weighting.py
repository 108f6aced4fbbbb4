"""GradientWeighting: class activation maps from a feature map and the gradient at it."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from saliencykit.core import checks
from saliencykit.core.errors import GradientError
from saliencykit.core.types import Labels, Logits, PerImage
from saliencykit.maskers.cam.class_activation_map import ROUNDING, ClassActivationMap, LayerInput
from saliencykit.maskers.normalize import NONFINITE_HINT
from saliencykit.networks.layer_activations import logits_and_activations


@dataclass(frozen=True, kw_only=True)
class GradientWeighting(ClassActivationMap):
    """A sum over the channels of a feature map, weighted by what the gradient at it says.

    One forward pass, and a backward pass from the logit to the layer only: about as costly as the
    prediction. A subclass says how the gradient weights the channels (`weighted`), and may explain
    another score than the label's logit (`score`).

    Args:
        layer: See `ClassActivationMap`; one pass for each layer.
        scales: See `ClassActivationMap`.

    Raises:
        InputError: The black box does not expose submodules, no layer qualifies, or a given one
            does not.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.
    """

    needs_gradient: ClassVar[bool] = True

    @abstractmethod
    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """What each channel adds to the map, (B, C, h, w), up to a factor for each image.

        Args:
            maps: The layer's output, (B, C, h, w).
            gradient: That of the score with respect to it, (B, C, h, w).
        """

    def score(self, logits: Logits, labels: Labels) -> PerImage:
        """What is explained, (B,): the label's logit."""
        return logits.gather(1, labels[:, None])[:, 0]

    def layer_map(self, layer: LayerInput) -> tuple[Tensor, Tensor]:
        """The sum over the channels."""
        images, feature_map = layer.images, layer.feature_map
        logits, leaves = logits_and_activations(layer.black_box, images, feature_map)
        with torch.enable_grad():
            total = self.score(logits, layer.labels).sum()
        gradients = torch.autograd.grad(total, leaves)
        with torch.no_grad():
            maps, gradient = (
                feature_map.read(torch.cat(list(parts)), images.shape[2:])
                for parts in (leaves, gradients)
            )
            if bad := checks.finite_rows(gradient):
                raise GradientError(
                    f"{checks.name_of(self)}: the gradient at {feature_map.name!r} is NaN or "
                    f"infinite in row {bad[0]} of {len(images)}; {NONFINITE_HINT}"
                )
            terms = self.weighted(maps, gradient)
            return terms.sum(1, keepdim=True), terms.abs().sum(1).amax((1, 2)) * ROUNDING
