"""Statistics of an image and of the model's answer, by which unlike images are told apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Images, Logits

STATISTICS = 8
"""Their number."""
SHARPNESS = slice(0, 2)
"""The statistics that tell how sharp an image is, whatever it shows."""
_SCALES = (1, 2, 4)  # blur and enlarged thumbnails lack what the finest scale has
_TINY = 1e-4


def image_statistics(images: Images, logits: Logits) -> Tensor:
    """Eight numbers. The first two, the `SHARPNESS`, are ratios of the mean gradients at three
    scales, as logarithms; then come those at the coarsest scale, of the contrast, the
    brightness, the spread of the channels, and the logits' margin and logarithmic sum.

    Args:
        images: (B, C, H, W), as the model gets them.
        logits: (B, K) of these images.

    Returns:
        (B, 8) float64, on the CPU.

    References:
        Liu et al. 2020, "Energy-based out-of-distribution detection": the logarithmic sum.
    """
    images, logits = images.double().cpu(), logits.double().cpu()
    gray = images.mean(1, keepdim=True)
    gradients = []
    for scale in _SCALES:
        small = gray if min(gray.shape[2:]) < 2 * scale else F.avg_pool2d(gray, scale)
        down, across = (small.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3))
        gradients.append(((down + across) / 2 + _TINY).log())
    fine, middle, coarse = gradients
    columns = [fine - middle, middle - coarse, coarse]
    columns.append((gray.std((1, 2, 3), correction=0) + _TINY).log())
    columns.append(gray.mean((1, 2, 3)))
    columns.append(images.std(1, correction=0).mean((1, 2)))
    best = logits.topk(min(2, logits.shape[1]), dim=1).values
    columns.append(best[:, 0] - best[:, -1])
    columns.append(logits.logsumexp(1))
    return torch.stack(columns, 1)
