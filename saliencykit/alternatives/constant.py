"""Constant: one color."""

from dataclasses import dataclass, replace
from typing import Literal, final

from torch import Generator

from saliencykit.core.alternative import Alternative, value_range
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, kw_only=True)
class Constant(Alternative):
    """One color everywhere.

    The classic occluder. It removes everything and is reproducible, but its edges introduce
    evidence, and a dark or gray object may survive in it.

    Args:
        color: A number or one per channel, in units of the images' range [0, 1] (0.5 is gray);
            `mean`: the image's own mean per channel; `zero`: what the model's normalization maps
            to 0.

    Raises:
        InputError: The color is none of these.

    Example:
        >>> from torch import Generator, zeros
        >>> red = Constant(color=(1.0, 0.0, 0.0))
        >>> red(zeros(1, 3, 2, 2), generator=Generator())[0, :, 0, 0].tolist()
        [1.0, 0.0, 0.0]

    References:
        Zeiler & Fergus 2014, section 4.2 (gray squares); Fong & Vedaldi 2017, section 3.1.
    """

    color: float | tuple[float, ...] | Literal["mean", "zero"] = 0.5

    def __post_init__(self) -> None:
        """Check the color."""
        numbers = self.color if isinstance(self.color, tuple) else (self.color,)
        if self.color in ("mean", "zero"):
            return
        if not numbers or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in numbers):
            raise InputError(
                f"Constant(color={self.color!r}): a color must be in [0, 1] per channel, or "
                "'mean', or 'zero'."
            )

    def for_black_box(self, black_box: BlackBox) -> Alternative:
        """`zero` becomes the raw color that this black box's normalization maps to 0; without
        normalization it is 0 itself.
        """
        if self.color != "zero" or black_box.baseline_color is None:
            return self
        return replace(self, color=black_box.baseline_color)

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The color; `generator` and `mask` are not used.

        Raises:
            InputError: There is neither one number nor one per channel.
        """
        if self.color == "zero":
            return images.new_zeros(images.shape)
        if self.color == "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images).clone()
        numbers = self.color if isinstance(self.color, tuple) else (self.color,)
        if len(numbers) not in (1, images.shape[1]):
            raise InputError(
                f"Constant(color={self.color}) has {len(numbers)} channels and the images "
                f"{images.shape[1]}; give one number, or one for each channel."
            )
        low, high = value_range(images)
        color = low + (high - low) * images.new_tensor(numbers).view(1, -1, 1, 1)
        return color.expand_as(images).clone()
