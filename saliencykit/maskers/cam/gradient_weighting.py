"""GradientWeighting: class activation maps from a feature map and the gradient at it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import GradientError
from saliencykit.core.types import Images, Labels, Logits, PerImage
from saliencykit.maskers.cam.class_activation_map import ROUNDING, ClassActivationMap
from saliencykit.maskers.normalize import NONFINITE_HINT
from saliencykit.networks.feature_map import FeatureMap
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

    def layer_map(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        feature_map: FeatureMap,
        generator: Generator,
    ) -> tuple[Tensor, Tensor]:
        """The sum over the channels."""
        logits, leaves = logits_and_activations(black_box, images, feature_map)
        with torch.enable_grad():
            total = self.score(logits, labels).sum()
        gradients = torch.autograd.grad(total, leaves)
        maps, gradient = (
            feature_map.read(_joined(parts), images.shape[2:]) for parts in (leaves, gradients)
        )
        if bad := checks.finite_rows(gradient):
            raise GradientError(
                f"{checks.name_of(self)}: the gradient at {feature_map.name!r} is NaN or infinite "
                f"in row {bad[0]} of {len(images)}; {NONFINITE_HINT}"
            )
        with torch.no_grad():
            terms = self.weighted(maps, gradient)
            floor = terms.abs().sum(1).amax((1, 2)) * ROUNDING
            return terms.sum(1, keepdim=True).to(images.dtype), floor.to(images.dtype)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].detach() if len(parts) == 1 else torch.cat([part.detach() for part in parts])
