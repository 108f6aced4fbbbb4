"""How a box prepares pictures, found by watching it: so that a file can say it and another box can
do the same.
"""

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from saliencykit.black_boxes.preprocessing import FITS, INTERPOLATIONS, Fit, fit_image
from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images

if TYPE_CHECKING:
    from PIL.Image import Image

# height and width: one picture wider than high, one higher than wide
_PROBES = (
    (45, 61),
    (50, 31),
)
_COMMON_SHARES = (1.0, 0.875)


@final
@dataclass(frozen=True)
class Preprocessing:
    """The arguments of `fit_image`, as numbers and words that a file can hold.

    Attributes:
        size: Height and width of the input in pixels.
        fit: `crop`, `squash` or `pad`.
        crop_share: See `fit_image`.
        interpolation: See `fit_image`.
        channels: 3 or 1.
        fill: The colour of what is padded; None: grey.
    """

    size: tuple[int, int]
    fit: Fit
    crop_share: float
    interpolation: str
    channels: int
    fill: tuple[float, ...] | None = None

    def __call__(self, picture: "Image") -> tuple[Images, Geometry]:
        """See `BlackBox.prepare`."""
        return fit_image(picture, self.size, **self._options())

    def as_facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def _options(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "size"}


def infer_preprocessing(
    black_box: BlackBox, size: tuple[int, int], channels: int
) -> Preprocessing | None:
    """What `black_box.prepare` does, if it is what `fit_image` does with some arguments, to the bit;
    else None.

    The box is shown two small pictures of noise; its model is not asked.

    Args:
        black_box: Any box.
        size: Height and width of its input in pixels.
        channels: Of its input.

    Example:
        >>> from saliencykit.black_boxes.function import FunctionBlackBox
        >>> black_box = FunctionBlackBox(lambda pictures: pictures.mean((1, 2)), size=16, fit="pad")
        >>> infer_preprocessing(black_box, (16, 16), 3).fit
        'pad'
    """
    if channels not in (1, 3):
        return None
    pictures = [_noise(*sides) for sides in _PROBES]
    try:
        wanted = [black_box.prepare(picture) for picture in pictures]
    except (
        Exception
    ):  # a box that takes tensors only, or a prepare of somebody's that fails on so small a picture
        return None
    shares = dict.fromkeys(
        [*_COMMON_SHARES, *(share for _, place in wanted for share in _shares(place, size))]
    )
    fills = dict.fromkeys([None, black_box.baseline_color])
    for fit, share, interpolation, fill in product(FITS, shares, INTERPOLATIONS, fills):
        if not 0 < share <= 1 or (fill is not None and fit != "pad"):
            continue
        found = Preprocessing(size, fit, share, interpolation, channels, fill)
        if all(
            _same(found(picture), answer) for picture, answer in zip(pictures, wanted, strict=True)
        ):
            return found
    return None


def _shares(place: Geometry, size: tuple[int, int]) -> list[float]:
    """What `crop_share` may have been, from where the input lies in the picture: size over the
    resized side.
    """
    x0, y0, x1, y1 = place.region
    resized = (
        round(size[0] * place.source_size[0] / (y1 - y0)),
        round(size[1] * place.source_size[1] / (x1 - x0)),
    )
    return [side / long for side, long in zip(size, resized, strict=True) if long]


def _same(one: tuple[Images, Geometry], other: tuple[Images, Geometry]) -> bool:
    return torch.equal(one[0], other[0]) and one[1].source_size == other[1].source_size


def _noise(height: int, width: int) -> "Image":
    from PIL import Image

    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
