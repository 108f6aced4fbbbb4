"""Grad-CAM: a classifier's last maps, weighted with what the label's logit wants of each."""

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
from saliencykit.networks.target_layer import cut_at, target_layer

_ROUNDING = 1e-6  # of the largest map times the sum of weights: what is below says nothing


@final
@dataclass(frozen=True, kw_only=True)
class GradCam(Masker):
    """The maps of a late layer, each weighted with the mean gradient of the label's logit with
    respect to it, and summed.

    One forward pass, and a backward pass from the logit to that layer only: about as costly as the
    prediction. Coarse, as the layer is (7 x 7 in many networks), and good at finding where; of
    several objects it tends to show the whole group. Where the layer is followed by mean pooling
    and one linear layer it is CAM, up to a factor. The layer is found by itself in convolutional
    networks, transformers with a class token or without, and hybrids, see `target_layer`; tokens
    are laid out as their grid.

    The mask is the positive part of the scores divided by its maximum, as published: what is
    negative speaks for other classes.

    Args:
        layer: The dotted name of another layer, such as `layer3`; its output must be a map over the
            picture.

    Raises:
        InputError: The box shows no torch module, no layer of it qualifies, or the named one does
            not.
        GradientError: The gradient at the layer is NaN or infinite, or there is none.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))
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
        """The weighted sum, as coarse as the layer, and its positive part as the mask."""
        feature_map = target_layer(black_box, images, self.layer)
        logits, leaves = cut_at(black_box, images, feature_map)
        with torch.enable_grad():
            asked = logits.gather(1, labels[:, None]).sum()
        slopes = torch.autograd.grad(asked, leaves)
        maps, slope = (
            feature_map.read(_whole(parts), images.shape[2:]) for parts in (leaves, slopes)
        )
        if bad := checks.finite_rows(slope):
            raise GradientError(
                f"GradCam: the gradient at {feature_map.name!r} is NaN or infinite in row {bad[0]} of "
                f"{len(images)}; {NONFINITE_HINT}"
            )
        with torch.no_grad():
            weights = slope.mean((2, 3), keepdim=True)
            scores = (weights * maps).sum(1, keepdim=True).to(images.dtype)
            floor = weights.abs().sum((1, 2, 3)) * maps.abs().amax((1, 2, 3)) * _ROUNDING
            return MaskerOutput(mask_from_attributions(scores, floor.to(scores.dtype)), scores)


def _whole(parts: "tuple[Tensor, ...] | list[Tensor]") -> Tensor:
    return parts[0].detach() if len(parts) == 1 else torch.cat([part.detach() for part in parts])
