"""Images and masks at a size that suits a screen."""

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from saliencykit.core.alternative import value_range
from saliencykit.core.geometry import Geometry
from saliencykit.visualization.heatmap import Array

_LONG_SIDE = 1600  # pixels; larger images are reduced for display
_SHORT_SIDE = 320  # pixels; smaller images are enlarged, or the outline would hide them


def display_arrays(
    image: Image.Image | Tensor, mask: Tensor, geometry: Geometry | None = None
) -> tuple[Array, Array]:
    """Resize an image and its mask to a size that suits a screen.

    Args:
        image: A PIL image, or a tensor (1, C, H, W); values outside [0, 1] are rescaled.
        mask: (1, 1, h, w) in [0, 1].
        geometry: Which part of the image the mask covers; None: all of it.

    Returns:
        The image (H, W, 3) and the mask (H, W), both in [0, 1] and of one size.
    """
    mask = mask.float() if geometry is None else geometry.to_source(mask.float())
    if isinstance(image, Image.Image):
        height, width = display_size((image.height, image.width))
        resized = image.convert("RGB").resize((width, height))
        pixels = np.asarray(resized, dtype=np.float32) / 255
    else:
        low, high = value_range(image)
        color = ((image - low) / (high - low)).float().cpu()
        color = color if color.shape[1] in (1, 3) else color.mean(1, keepdim=True)
        height, width = display_size((color.shape[2], color.shape[3]))
        color = _resized(color.expand(-1, 3, -1, -1), (height, width))
        pixels = color[0].permute(1, 2, 0).numpy()
    return pixels, _resized(mask.cpu(), (height, width))[0, 0].numpy()


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which an image of (height, width) is shown.

    Example:
        >>> display_size((224, 224)), display_size((2000, 4000))
        ((320, 320), (800, 1600))
    """
    scale = max(1.0, _SHORT_SIDE / min(size))
    scale = min(scale, _LONG_SIDE / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def to_pil(images: Tensor) -> Image.Image:
    """The first image of a batch; its channels are averaged if they are neither gray nor RGB.

    Args:
        images: (B, C, H, W) in [0, 1].

    Returns:
        A PIL image of mode L or RGB.
    """
    pixels = images[0] if images.shape[1] in (1, 3) else images[0].mean(0, keepdim=True)
    scaled = (pixels.detach().float().clamp(0, 1) * 255).round().byte().cpu()
    array = scaled.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0, 1)
