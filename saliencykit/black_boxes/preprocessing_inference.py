"""Preprocessing: how a black box prepares images, inferred from its outputs.

So that a file can store it, and another black box can do the same.
"""

from dataclasses import asdict, dataclass
from itertools import product
from typing import Annotated, Any, final

import numpy as np
import torch
from msgspec import Meta
from PIL import Image

from saliencykit.black_boxes.preprocessing import (
    FITS,
    INTERPOLATIONS,
    Fit,
    Interpolation,
    fit_image,
)
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images
from saliencykit.storage.typed_json import Finite, Size

_PROBE_SIZES = ((45, 61), (50, 31))  # height and width: a landscape and a portrait image
_COMMON_CROP_PCTS = (1.0, 0.875)


@final
@dataclass(frozen=True)
class Preprocessing:
    """The arguments of `fit_image`, as values that a JSON file can hold.

    Attributes:
        size: Height and width of the input in pixels.
        fit: `crop`, `squash` or `pad`.
        crop_pct: See `fit_image`.
        interpolation: See `fit_image`.
        channels: 3 or 1.
        fill: The fill color of padding; None: gray.

    Raises:
        InputError: The fill color has another number of channels.
    """

    size: Size
    fit: Fit
    crop_pct: Annotated[float, Meta(gt=0, le=1)]
    interpolation: Interpolation
    channels: Annotated[int, Meta(ge=1, le=3)]
    fill: tuple[Finite, ...] | None = None

    def __post_init__(self) -> None:
        """Check the fill color."""
        if self.fill is not None and len(self.fill) != self.channels:
            raise InputError(f"a fill of {self.channels} channels; got {self.fill}.")

    def __call__(self, image: Image.Image) -> tuple[Images, Geometry]:
        """See `BlackBox.prepare`."""
        return fit_image(image, **asdict(self))


def infer_preprocessing(
    black_box: BlackBox, size: tuple[int, int], channels: int
) -> Preprocessing | None:
    """What `black_box.prepare` does, if it is bit for bit what `fit_image` does with some
    arguments; else None.

    The black box prepares two small images of noise; its model is not queried.

    Args:
        black_box: Any black box.
        size: Height and width of its input in pixels.
        channels: Of its input.

    Example:
        >>> from saliencykit.black_boxes import FunctionBlackBox
        >>> black_box = FunctionBlackBox(lambda images: images.mean((1, 2)), size=16, fit="pad")
        >>> infer_preprocessing(black_box, (16, 16), 3).fit
        'pad'
    """
    if channels not in (1, 3):
        return None
    images = [_noise(*probe) for probe in _PROBE_SIZES]
    try:
        expected = [black_box.prepare(image) for image in images]
    # a black box that takes tensors only, or a user's `prepare` that fails on so small an image
    except Exception:
        return None
    likely: list[float] = [*_COMMON_CROP_PCTS]
    for _, geometry in expected:
        likely += _crop_pcts(geometry, size)
    color = black_box.baseline_color
    fills = dict.fromkeys([None, color if color is None or len(color) == channels else None])
    options = product(FITS, dict.fromkeys(likely), INTERPOLATIONS, fills)
    for fit, crop_pct, interpolation, fill in options:
        if not 0 < crop_pct <= 1 or (fill is not None and fit != "pad"):
            continue
        preprocessing = Preprocessing(size, fit, crop_pct, interpolation, channels, fill)
        pairs = zip(images, expected, strict=True)
        if all(_equal(preprocessing(image), wanted) for image, wanted in pairs):
            return preprocessing
    return None


def _crop_pcts(geometry: Geometry, size: tuple[int, int]) -> list[float]:
    """What `crop_pct` may have been, from the region: the input size over the resized side."""
    x0, y0, x1, y1 = geometry.region
    height, width = geometry.source_size
    resized = (round(size[0] * height / (y1 - y0)), round(size[1] * width / (x1 - x0)))
    return [side / long for side, long in zip(size, resized, strict=True) if long]


def _equal(one: tuple[Images, Geometry], other: tuple[Images, Geometry]) -> bool:
    return torch.equal(one[0], other[0]) and one[1].source_size == other[1].source_size


def _noise(height: int, width: int) -> Image.Image:
    pixels: Any = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
