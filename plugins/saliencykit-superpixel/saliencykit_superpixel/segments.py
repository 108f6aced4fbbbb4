"""Superpixels: segments of an image that follow its edges."""

import torch
from torch import Tensor

from saliencykit import InputError
from saliencykit.core import Images


def superpixels(image: Images, segments: int, compactness: float) -> Tensor:
    """SLIC: connected clusters of pixels that are close in color and in space.

    Deterministic: an image always has the same superpixels. 0.03 s for 224 x 224 pixels on one
    core.

    Args:
        image: (1, C, H, W), in any range; scaled to [0, 1] for the clustering.
        segments: Approximate number, >= 1. Small segments are merged, so there may be fewer: a
            single one for pure noise.
        compactness: Weight of distance relative to color, > 0: large values give squares, small
            ones follow every edge. 10 is usual.

    Returns:
        The index of each pixel's superpixel, (H, W) int64 on the CPU, from 0 without gaps.

    Example:
        >>> halves = torch.zeros(1, 3, 8, 8)
        >>> halves[..., 4:] = 1
        >>> superpixels(halves, 4, 0.1)[0].tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]

    References:
        Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art superpixel methods";
        scikit-image's implementation.
    """
    from skimage.segmentation import slic

    pixels = image[0].detach().permute(1, 2, 0).double().cpu()
    low, high = pixels.aminmax()
    pixels = (pixels - low) / (high - low).clamp_min(1e-9)
    numbers = slic(
        pixels.numpy(),
        n_segments=segments,
        compactness=compactness,
        start_label=0,
        channel_axis=2,
        convert2lab=image.shape[1] == 3,
    )
    consecutive: Tensor = torch.unique(torch.from_numpy(numbers), return_inverse=True)[1]
    return consecutive


def check_segmentation(owner: object, segments: int, compactness: float) -> None:
    """Raise InputError unless the options of `owner` are valid ones of `superpixels`."""
    if not isinstance(segments, int) or segments < 1 or not 0 < compactness < float("inf"):
        raise InputError(f"{owner}: segments must be an integer >= 1 and compactness > 0.")
