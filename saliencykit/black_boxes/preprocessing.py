"""From a PIL image to a model's input: resized, cropped or padded."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image

from saliencykit.black_boxes.pil_modes import eight_bit
from saliencykit.core.checks import one_of
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images

Fit = Literal["crop", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
FITS: tuple[Fit, ...] = get_args(Fit)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

# pixels after resizing; only a strip more than a hundred times as long as wide gets there
_MAX_PIXELS = 2**26


def fit_image(
    image: Image.Image,
    size: tuple[int, int],
    *,
    fit: Fit = "crop",
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    channels: int = 3,
    fill: Sequence[float] | None = None,
) -> tuple[Images, Geometry]:
    """Resize an image to a model's input size, bit for bit as the evaluation transforms of
    torchvision and timm do.

    Args:
        image: A PIL image, any mode and size.
        size: Height and width of the input in pixels, >= 1.
        fit: `crop`: the short side to size / crop_pct, then the center. `squash`: both sides to
            size / crop_pct whatever the aspect ratio, then the center. `pad`: the long side to size
            / crop_pct, then the center, filled up to `size`.
        crop_pct: The fraction of the resized side that the input shows, in (0, 1].
        interpolation: One of PIL's filters: nearest, bilinear, bicubic, lanczos, box, hamming;
            antialiased.
        channels: 3 for RGB or 1 for gray.
        fill: With `pad`: the fill color, one value in [0, 1] per channel. None: mid-gray.

    Returns:
        Images (1, channels, height, width), raw in [0, 1], and where they lie in the source image.

    Raises:
        InputError: An option is out of range, or the image cannot be converted.

    Example:
        >>> images, geometry = fit_image(Image.new("L", (40, 20), 255), (8, 8))
        >>> images.shape, geometry.region
        (torch.Size([1, 3, 8, 8]), (10.0, 0.0, 30.0, 20.0))
    """
    one_of("fit_image", FITS, fit=fit)
    one_of("fit_image", INTERPOLATIONS, interpolation=interpolation)
    height, width = size
    source = (image.height, image.width)
    tall, wide = _resized(source, size, fit, crop_pct)
    top, left = _offset(tall, height), _offset(wide, width)
    region = (
        left * image.width / wide,
        top * image.height / tall,
        (left + width) * image.width / wide,
        (top + height) * image.height / tall,
    )
    flat = eight_bit(image, channels)
    resample = Image.Resampling[interpolation.upper()]
    if tall * wide > _MAX_PIXELS and fit == "crop":
        x0, y0, x1, y1 = region
        visible = (max(x0, 0.0), max(y0, 0.0), min(x1, image.width), min(y1, image.height))
        fitted = flat.resize((width, height), resample, box=visible)
    else:
        resized = flat.resize((wide, tall), resample) if (wide, tall) != flat.size else flat
        fitted = resized.crop((left, top, left + width, top + height))
        if wide < width or tall < height:
            color = tuple(round(255 * value) for value in (fill or (0.5,) * channels))
            fitted = Image.new(flat.mode, (width, height), color if channels > 1 else color[0])
            fitted.paste(resized, (-left, -top))
    pixels = np.array(fitted, dtype=np.float32).reshape(height, width, channels)
    values = torch.from_numpy(pixels).div_(255).permute(2, 0, 1)[None].contiguous()
    return values, Geometry(source, region, size)


def _resized(
    source: tuple[int, int], size: tuple[int, int], fit: Fit, crop_pct: float
) -> tuple[int, int]:
    """Height and width after resizing, rounded as torchvision's Resize and timm's ResizeKeepRatio
    round.
    """
    # the epsilon undoes a division that came out just under the integer that crop_pct was made from
    scaled = [max(side, math.floor(side / crop_pct + 1e-6)) for side in size]
    if fit == "squash":
        return scaled[0], scaled[1]
    if fit == "crop" and scaled[0] == scaled[1]:
        short, long = min(source), max(source)
        far = int(scaled[0] * long / short)
        return (scaled[0], far) if source[0] <= source[1] else (far, scaled[0])
    ratios = [have / want for have, want in zip(source, scaled, strict=True)]
    ratio = min(ratios) if fit == "crop" else max(ratios)
    return max(1, round(source[0] / ratio)), max(1, round(source[1] / ratio))


def _offset(have: int, want: int) -> int:
    """Where the center begins; negative where the image is smaller and is padded."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)
