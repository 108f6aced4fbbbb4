"""One picture to the input of a model: resized, cropped or padded, and where that lies in the
picture.
"""

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from saliencykit.black_boxes.pil_modes import eight_bit
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

Fit = Literal["crop", "squash", "pad"]
FITS = ("crop", "squash", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")

# pixels after resizing; only a strip more than a hundred times as long as wide gets there
_TOO_MANY = 2**26


def fit_image(
    picture: "Image",
    size: tuple[int, int],
    *,
    fit: Fit = "crop",
    crop_share: float = 1.0,
    interpolation: str = "bilinear",
    channels: int = 3,
    fill: "Sequence[float] | None" = None,
) -> tuple[Images, Geometry]:
    """Resize a picture to a model's input size, as torchvision's and timm's own evaluation
    transforms do, to the bit.

    Args:
        picture: A PIL picture, any mode and size.
        size: Height and width of the input in pixels, >= 1.
        fit: `crop`: the short side to size / crop_share, then the centre. `squash`: both sides to
            size / crop_share whatever the aspect, then the centre. `pad`: the long side to size /
            crop_share, then the centre, the rest filled.
        crop_share: The share of the resized side that the input shows, in (0, 1].
        interpolation: One of PIL's filters: nearest, bilinear, bicubic, lanczos, box, hamming;
            antialiased.
        channels: 3 for RGB or 1 for grey.
        fill: With `pad`: the colour of the rest, one value in [0, 1] per channel; None: mid-grey.

    Returns:
        Images (1, channels, height, width), raw in [0, 1], and where they lie in the picture.

    Raises:
        InputError: An option is not one of these, or the picture cannot be converted.

    Example:
        >>> from PIL import Image
        >>> images, geometry = fit_image(Image.new("L", (40, 20), 255), (8, 8))
        >>> images.shape, geometry.region
        (torch.Size([1, 3, 8, 8]), (10.0, 0.0, 30.0, 20.0))
    """
    from PIL import Image

    if fit not in FITS:
        raise InputError(f"fit is one of {', '.join(FITS)}; got {fit!r}.")
    if interpolation not in INTERPOLATIONS:
        raise InputError(
            f"interpolation is one of {', '.join(INTERPOLATIONS)}; got {interpolation!r}."
        )
    height, width = size
    across, down = picture.size
    tall, wide = _resized((down, across), size, fit, crop_share)
    top, left = _offset(tall, height), _offset(wide, width)
    region = (
        left * across / wide,
        top * down / tall,
        (left + width) * across / wide,
        (top + height) * down / tall,
    )
    flat = eight_bit(picture, channels)
    chosen = Image.Resampling[interpolation.upper()]
    if tall * wide > _TOO_MANY and fit == "crop":
        shown = (
            max(region[0], 0.0),
            max(region[1], 0.0),
            min(region[2], float(across)),
            min(region[3], float(down)),
        )
        cut = flat.resize((width, height), chosen, box=shown)
    else:
        resized = flat.resize((wide, tall), chosen) if (wide, tall) != flat.size else flat
        cut = resized.crop((left, top, left + width, top + height))
        if wide < width or tall < height:
            color = tuple(round(255 * value) for value in (fill or (0.5,) * channels))
            canvas = Image.new(flat.mode, (width, height), color if channels > 1 else color[0])
            canvas.paste(resized, (-left, -top))
            cut = canvas
    values = torch.from_numpy(
        np.array(cut, dtype=np.float32).reshape(height, width, channels)
    ).div_(255)
    return values.permute(2, 0, 1)[None].contiguous(), Geometry((down, across), region, size)


def _resized(
    picture: tuple[int, int], size: tuple[int, int], fit: Fit, crop_share: float
) -> tuple[int, int]:
    """Height and width after resizing, rounded as torchvision's Resize and timm's ResizeKeepRatio
    round.
    """
    # the small number undoes a division that came out just under the whole number that the share
    # was made from
    scaled = [max(side, math.floor(side / crop_share + 1e-6)) for side in size]
    if fit == "squash":
        return scaled[0], scaled[1]
    if fit == "crop" and scaled[0] == scaled[1]:
        short, long = min(picture), max(picture)
        far = int(scaled[0] * long / short)
        return (scaled[0], far) if picture[0] <= picture[1] else (far, scaled[0])
    ratios = [have / want for have, want in zip(picture, scaled, strict=True)]
    ratio = min(ratios) if fit == "crop" else max(ratios)
    return max(1, round(picture[0] / ratio)), max(1, round(picture[1] / ratio))


def _offset(have: int, want: int) -> int:
    """Where the centre begins; negative where the picture is smaller and is padded."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)
