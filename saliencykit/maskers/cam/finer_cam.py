"""Finer-CAM: Grad-CAM of what tells a class from similar ones."""

from dataclasses import dataclass
from typing import Annotated, final

from torch import Tensor

from saliencykit.core.types import Labels, Logits, PerImage
from saliencykit.maskers.cam.gradient_weighting import GradientWeighting


@final
@dataclass(frozen=True, kw_only=True)
class FinerCam(GradientWeighting):
    """Grad-CAM of the label's logit minus `gamma` times the mean logit of similar classes.

    What similar classes share cancels, so that the map shows the wing bars of a bird rather than
    the bird. The similar classes are those whose logits are nearest to the label's.

    Args:
        layer: See `ClassActivationMap`.
        scales: See `ClassActivationMap`.
        gamma: How much of the similar classes is subtracted, >= 0; 0 is Grad-CAM.
        references: How many similar classes, >= 1; all others where the model has fewer.

    Raises:
        InputError: A number is out of range; or see `ClassActivationMap`.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> import torch
        >>> masker, logits = FinerCam(gamma=0.5, references=2), torch.tensor([[9.0, 8.0, 0.0, 6.0]])
        >>> masker.score(logits, torch.tensor([0])).item()
        5.5

    References:
        Zhang et al. 2025, "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual
        Explanation", section 3.
    """

    gamma: Annotated[float, "[0, inf)"] = 0.6
    references: Annotated[int, "[1, inf)"] = 3

    def score(self, logits: Logits, labels: Labels) -> PerImage:
        """The label's logit minus `gamma` times the mean of the nearest ones, (B,)."""
        own = logits.gather(1, labels[:, None])
        distances = (logits - own).detach().abs().scatter(1, labels[:, None], float("inf"))
        count = min(self.references, logits.shape[1] - 1)
        if not count:
            return own[:, 0]
        nearest = distances.topk(count, largest=False).indices
        return own[:, 0] - self.gamma * logits.gather(1, nearest).mean(1)

    def weighted(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Each channel times its mean gradient."""
        return gradient.mean((2, 3), keepdim=True) * maps
