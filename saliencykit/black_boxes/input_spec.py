"""InputSpec: what a model of another runtime takes as images; for authors of black boxes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from PIL.Image import Image

from saliencykit.black_boxes.input_shape import Layout
from saliencykit.black_boxes.input_size import check_size, height_width
from saliencykit.black_boxes.preprocessing import Fit, Interpolation, fit_image
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images


@final
@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes as images: size, range of values, order of axes.

    A raw pixel x in [0, 1] becomes `(x * max_pixel_value - mean) / std`, so the usual statistics of
    pixels in [0, 1] are written as they are, and those of pixels in 0..255 together with
    `max_pixel_value=255`. Computed in the precision of the images and cast at the end.

    Args:
        channels: 3 for RGB, 1 for gray; any other number for tensors only.
        size: Side or (height, width) in pixels that images are resized to. None: not known.
        layout: `NCHW` or `NHWC`.
        dtype: `float32`, `float16`, `float64`, or `uint8`: 0..255, rounded, without `mean` and
            `std`.
        max_pixel_value: The value of a white pixel, > 0: 1, 255, 16.
        mean: Subtracted, one number or one per channel, in units of `max_pixel_value`. None:
            nothing is.
        std: Divided by, > 0, with `mean`.
        fit: How an image is resized to `size`: `crop`, `squash` or `pad`; see `fit_image`.
        crop_pct: The fraction of the resized side that is kept, in (0, 1].
        interpolation: Of the resizing.

    Raises:
        InputError: An option is out of range.

    Example:
        >>> spec = InputSpec(layout="NHWC", max_pixel_value=255, mean=127.5, std=127.5, channels=1)
        >>> spec.arrays(torch.tensor([[[[0.0, 0.5], [0.75, 1.0]]]]))[0, :, :, 0].tolist()
        [[-1.0, 0.0], [0.5, 1.0]]
    """

    channels: int = 3
    size: int | tuple[int, int] | None = None
    layout: Layout = "NCHW"
    dtype: Literal["float16", "float32", "float64", "uint8"] = "float32"
    max_pixel_value: float = 1.0
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    fit: Fit = "crop"
    crop_pct: Annotated[float, "(0, 1]"] = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)
        if not _is_number(self.max_pixel_value) or not 0 < self.max_pixel_value < float("inf"):
            raise InputError(
                "max_pixel_value must be the value of a white pixel, > 0, such as 1 or 255; got "
                f"{self.max_pixel_value!r}."
            )
        if (self.mean is None) != (self.std is None):
            raise InputError(
                f"mean and std must be given together; got mean={self.mean!r} and std={self.std!r}."
            )
        for name in ("mean", "std"):
            numbers = _numbers(getattr(self, name))
            if numbers is None:
                continue
            if len(numbers) not in (1, self.channels) or not all(map(_is_number, numbers)):
                raise InputError(
                    f"{name} is one number or one per channel ({self.channels}); got "
                    f"{getattr(self, name)!r}."
                )
        mean, std = _numbers(self.mean), _numbers(self.std)
        if std is not None and min(std) <= 0:
            raise InputError(f"std must be > 0 in every channel; got {self.std!r}.")
        if mean is not None and max(mean) > max(10.0, self.max_pixel_value):
            raise InputError(
                f"mean {self.mean!r} is for pixels in 0..255; write max_pixel_value=255 too, or "
                "divide mean and std by 255."
            )
        if mean is not None and self.dtype == "uint8":
            raise InputError(
                "the model takes pixels as uint8, 0..255; mean and std are for models that take "
                "floats."
            )
        check_size(self.size, "InputSpec")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width.

        Raises:
            InputError: `size` is not known.
        """
        if self.size is None:
            raise InputError(
                "the model takes images of any size and does not declare its own; write size=224."
            )
        return height_width(self.size)

    @property
    def normalization_unknown(self) -> bool:
        """Are pixels in [0, 1] passed as they are, although nobody said so?"""
        return self.mean is None and self.max_pixel_value == 1 and self.dtype != "uint8"

    @property
    def baseline_color(self) -> tuple[float, ...] | None:
        """The raw color that becomes 0, for `BlackBox.baseline_color`; None where there is none."""
        mean = _numbers(self.mean)
        if mean is None:
            return None
        color = tuple(v / self.max_pixel_value for v in mean)
        if min(color) < 0 or max(color) > 1:
            return None
        return color * self.channels if len(color) == 1 else color

    def prepare(self, image: Image) -> tuple[Images, Geometry]:
        """The image at `size`, for `BlackBox.prepare`.

        Raises:
            InputError: `size` is not known, or `channels` is neither 3 nor 1.
        """
        if self.channels not in (1, 3):
            raise InputError(
                f"the model takes {self.channels} channels and an image has 3 or 1; give a tensor "
                "(B, C, H, W)."
            )
        return fit_image(
            image,
            self.input_size,
            fit=self.fit,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            channels=self.channels,
            fill=self.baseline_color,
        )

    def arrays(self, images: Images) -> "np.ndarray[Any, np.dtype[Any]]":
        """Raw images (B, C, H, W) as the array that the model takes, with memory of its own.

        Raises:
            InputError: The images have another number of channels or another size.
        """
        size = images.shape[2:] if self.size is None else self.input_size
        expected = (self.channels, *size)
        if tuple(images.shape[1:]) != expected:
            raise InputError(
                f"the model takes (channels, height, width) {expected}; the images have "
                f"{tuple(images.shape[1:])}."
            )
        values = images.detach().to("cpu")
        if self.dtype == "uint8":
            values = values.clamp(0, 1).mul(255).round()
        else:
            mean, std = _numbers(self.mean), _numbers(self.std)
            values = values * self.max_pixel_value
            if mean is not None and std is not None:
                shift, scale = (values.new_tensor(v).view(1, -1, 1, 1) for v in (mean, std))
                values = (values - shift).div_(scale)
        if self.layout == "NHWC":
            values = values.permute(0, 2, 3, 1)
        return np.array(values.to(getattr(torch, self.dtype)).numpy(), order="C")


def warn_unknown_normalization(who: str) -> None:
    """Warn that the normalization is unknown; for runtimes whose files and servers do not tell.

    Args:
        who: The file or address.

    Warns:
        UserWarning: Always.
    """
    warnings.warn(
        f"{who} does not say how pixels are normalized, and mean, std or max_pixel_value were not "
        "given: images go in as RGB in [0, 1]. Most ImageNet models want "
        "mean=(0.485,0.456,0.406),std=(0.229,0.224,0.225); if [0, 1] is right, write "
        "mean=0,std=1.",
        stacklevel=3,
    )


def _numbers(value: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return None if value is None else (value,)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
