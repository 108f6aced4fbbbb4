"""InputForm: what a model that is not torch's takes for a picture; for those who write black boxes
around other runtimes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch

from saliencykit.black_boxes.preprocessing import FITS, INTERPOLATIONS, Fit, fit_image
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images

if TYPE_CHECKING:
    from PIL.Image import Image

Layout = Literal["NCHW", "NHWC"]
LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float16", "float32", "float64", "uint8")


@final
@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes for a picture: its size, the range of its numbers, the order of its axes.

    A raw pixel x in [0, 1] becomes `(x * white - mean) / std`, so the usual statistics of pixels in
    [0, 1] are written as they are, and those of pixels in 0..255 together with `white=255`.
    Computed in the images' own precision and cast at the end.

    Args:
        channels: 3 for RGB, 1 for grey; a number of its own for tensors only.
        size: Side or (height, width) in pixels that pictures are brought to. None: not known.
        layout: `NCHW` or `NHWC`: where the channels stand.
        dtype: `float32`, `float16`, `float64`, or `uint8`: 0..255, rounded, without `mean` and
            `std`.
        white: The number of a white pixel, > 0: 1, 255, 16.
        mean: Subtracted, one number or one per channel, in units of `white`. None: nothing is.
        std: Divided by, > 0, with `mean`.
        fit: How a picture is brought to `size`: `crop`, `squash` or `pad`; see `fit_image`.
        crop_share: The share of the resized side that is kept, in (0, 1].
        interpolation: Of the resizing.

    Raises:
        InputError: A number or word is not one of these.

    Example:
        >>> form = InputSpec(size=2, layout="NHWC", white=255.0, mean=(127.5,), std=(127.5,), channels=1)
        >>> form.arrays(torch.tensor([[[[0.0, 0.5], [0.75, 1.0]]]]))[0, :, :, 0].tolist()
        [[-1.0, 0.0], [0.5, 1.0]]
    """

    channels: int = 3
    size: int | tuple[int, int] | None = None
    layout: Layout = "NCHW"
    dtype: str = "float32"
    white: float = 1.0
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    fit: Fit = "crop"
    crop_share: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Check the numbers."""
        words = {"layout": LAYOUTS, "dtype": DTYPES, "fit": FITS, "interpolation": INTERPOLATIONS}
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} is one of {', '.join(known)}; got {getattr(self, name)!r}."
                )
        if not _number(self.white) or not 0 < self.white < float("inf"):
            raise InputError(
                "white is what the model takes for a white pixel, > 0, such as 1 or 255; got "
                f"{self.white!r}."
            )
        if (self.mean is None) != (self.std is None):
            raise InputError(
                f"mean and std are given together; got mean={self.mean!r} and std={self.std!r}."
            )
        for name in ("mean", "std"):
            numbers = self._numbers(name)
            if numbers is not None and (
                len(numbers) not in (1, self.channels) or not all(_number(v) for v in numbers)
            ):
                raise InputError(
                    f"{name} is one number or one per channel ({self.channels}); got "
                    f"{getattr(self, name)!r}."
                )
        mean, std = self._numbers("mean"), self._numbers("std")
        if std is not None and min(std) <= 0:
            raise InputError(f"std is > 0 in every channel; got {self.std!r}.")
        if mean is not None and max(mean) > max(10.0, self.white):
            raise InputError(
                f"mean {self.mean!r} is for pixels in 0..255; write white=255 too, or divide mean "
                "and std by 255."
            )
        if mean is not None and self.dtype == "uint8":
            raise InputError(
                "the model takes pixels as uint8, 0..255; mean and std are for models that take "
                "floats."
            )
        if self.size is not None and min(self.input_size) < 1:
            raise InputError(
                f"size is a side or (height, width) in pixels, >= 1; got {self.size!r}."
            )
        if not 0 < self.crop_share <= 1:
            raise InputError(f"crop_share is in (0, 1]; got {self.crop_share!r}.")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width.

        Raises:
            InputError: `size` is not known.
        """
        if self.size is None:
            raise InputError(
                "the model takes pictures of any size and does not say of which; write size=224."
            )
        return (
            (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])
        )

    @property
    def bare(self) -> bool:
        """Do pixels in [0, 1] go in as they are, although nobody said so?"""
        return self.mean is None and self.white == 1 and self.dtype != "uint8"

    @property
    def baseline_color(self) -> tuple[float, ...] | None:
        """The raw colour that becomes 0, for `BlackBox.baseline_color`; None if nothing is subtracted, or it
        is no colour.
        """
        mean = self._numbers("mean")
        if mean is None:
            return None
        color = tuple(v / self.white for v in mean)
        if min(color) < 0 or max(color) > 1:
            return None
        return color * self.channels if len(color) == 1 else color

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The picture at `size`, for `BlackBox.prepare`.

        Raises:
            InputError: `size` is not known, or `channels` is neither 3 nor 1.
        """
        if self.channels not in (1, 3):
            raise InputError(
                f"the model takes {self.channels} channels and a picture has 3 or 1; give a "
                "tensor (B, C, H, W)."
            )
        return fit_image(
            picture,
            self.input_size,
            fit=self.fit,
            crop_share=self.crop_share,
            interpolation=self.interpolation,
            channels=self.channels,
            fill=self.baseline_color,
        )

    def arrays(self, images: Images) -> "np.ndarray[Any, np.dtype[Any]]":
        """Raw images (B, C, H, W) as the array that the model takes, of its own memory.

        Raises:
            InputError: The images have another number of channels or another size.
        """
        wanted = (self.channels, *(images.shape[2:] if self.size is None else self.input_size))
        if tuple(images.shape[1:]) != wanted:
            raise InputError(
                f"the model takes (channels, height, width) {wanted}; the images have "
                f"{tuple(images.shape[1:])}."
            )
        values = images.detach().to("cpu")
        if self.dtype == "uint8":
            values = values.clamp(0, 1).mul(255).round()
        else:
            mean, std = self._numbers("mean"), self._numbers("std")
            values = values * self.white
            if mean is not None and std is not None:
                values = (values - values.new_tensor(mean).view(1, -1, 1, 1)).div_(
                    values.new_tensor(std).view(1, -1, 1, 1)
                )
        if self.layout == "NHWC":
            values = values.permute(0, 2, 3, 1)
        return np.array(values.to(getattr(torch, self.dtype)).numpy(), order="C")

    def _numbers(self, name: str) -> tuple[float, ...] | None:
        value = getattr(self, name)
        return (
            None
            if value is None
            else tuple(value)
            if isinstance(value, Sequence) and not isinstance(value, str)
            else (value,)
        )


def warn_of_bare_pixels(who: str) -> None:
    """Say that nothing is known of how pixels are normalised; for boxes of runtimes whose files and
    servers do not say it.

    Args:
        who: The file or address.

    Warns:
        UserWarning: In any case.
    """
    warnings.warn(
        f"{who} does not say how pixels are normalised, and mean, std or white were not given: "
        "pictures go in as RGB in [0, 1]. Most ImageNet models want "
        "mean=(0.485,0.456,0.406),std=(0.229,0.224,0.225); if [0, 1] is right, write "
        "mean=0,std=1.",
        stacklevel=3,
    )


@final
@dataclass(frozen=True)
class Declared:
    """What a file or a server says of its input: the batch, channels, height and width, each None
    where it is free.
    """

    batch: int | None
    layout: Layout
    channels: int | None
    height: int | None
    width: int | None

    def size(self, given: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        """The size that pictures are brought to: what is declared, and `given` where that leaves it
        open.

        Raises:
            InputError: They contradict each other.
        """
        height, width = (given, given) if isinstance(given, int) or given is None else given
        for have, wanted in ((self.height, height), (self.width, width)):
            if have is not None and wanted is not None and have != wanted:
                raise InputError(
                    f"size={given!r} was given and the model takes {self.height} x {self.width} "
                    "(height x width)."
                )
        high, wide = self.height or height, self.width or width
        return None if high is None or wide is None else (high, wide)


def declared(shape: Sequence[object], layout: Layout | None = None) -> Declared:
    """Read a declared input shape of four axes; what is no number >= 1 (a name, None, -1) is free.

    Args:
        shape: As the file or server says it, with the batch first.
        layout: Where the channels stand; None: where a 1 or 3 stands, and second if that says
            nothing.

    Raises:
        InputError: There are not four axes, or there is another word for the layout.

    Example:
        >>> declared(["batch", 224, 224, 3])
        Declared(batch=None, layout='NHWC', channels=3, height=224, width=224)
    """
    if layout not in (None, *LAYOUTS):
        raise InputError(f"layout is one of {', '.join(LAYOUTS)}; got {layout!r}.")
    if len(shape) != 4:
        raise InputError(
            f"pictures are given as four axes, NCHW or NHWC; the model takes {list(shape)}."
        )
    batch, *rest = (
        v if isinstance(v, int) and not isinstance(v, bool) and v >= 1 else None for v in shape
    )
    last = layout == "NHWC" if layout else rest[2] in (1, 3) and rest[0] not in (1, 3)
    if last:
        return Declared(batch, "NHWC", rest[2], rest[0], rest[1])
    return Declared(batch, "NCHW", rest[0], rest[1], rest[2])


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
