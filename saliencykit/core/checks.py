"""Checks of the tensors that pass through a contract. Messages are built only on failure."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.visible_text import unicode_text


def name_of(thing: object) -> str:
    """The class name of an object, for messages; that of the object that it `stands_for`, if it has
    this attribute.

    Example:
        >>> name_of(3)
        'int'
    """
    return type(getattr(thing, "stands_for", thing)).__name__


def reason_of(error: BaseException) -> str:
    """An error in one line, for the row of an image that has no result: our own messages as they
    are, others with the error's name before them.

    Args:
        error: The exception.

    Example:
        >>> reason_of(ValueError("no such   layer"))
        'ValueError: no such layer'
    """
    text = unicode_text(" ".join(str(error).split())) or "no message"
    return text if isinstance(error, SaliencyKitError) else f"{name_of(error)}: {text}"


@contextmanager
def no_exit(who: str) -> Iterator[None]:
    """Code of an implementation, which raises errors and does not end the program.

    Args:
        who: The implementation, for the error.

    Raises:
        ContractError: The code raised SystemExit.
    """
    try:
        yield
    except SystemExit as error:
        raise ContractError(
            f"{who} raised SystemExit({error.code!r}); it must raise an error and not end the "
            "program."
        ) from error


def finite_rows(tensor: Tensor) -> list[int]:
    """Indices of the rows that hold a NaN or an infinity; empty if there are none."""
    if math.isfinite(float(tensor.detach().sum())):  # one cheap pass; finite sums do not overflow
        return []
    return [i for i, row in enumerate(tensor.detach()) if not bool(torch.isfinite(row).all())]


def counts(who: str, least: int = 1, **values: object) -> None:
    """Raise InputError unless these arguments of a function are whole numbers >= `least`, or None.

    Args:
        who: The function.
        least: The smallest allowed value.
        values: The arguments, by name.

    Example:
        >>> counts("evaluate", batch_size=16, max_images=None)
    """
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or value < least):
            raise InputError(f"{who}({name}={value!r}) takes a whole number >= {least}.")


def numbers(who: str, interval: str, **values: object) -> None:
    """Raise InputError unless these arguments of a function are numbers in an interval.

    Args:
        who: The function.
        interval: Such as `(0, 1]`: square brackets include the end, round ones do not.
        values: The arguments, by name.

    Example:
        >>> numbers("fit", "(0, inf)", lr=0.1)
    """
    for name, value in values.items():
        if not in_interval(value, interval):
            raise InputError(f"{who}({name}={value!r}) takes a number in {interval}.")


def one_of(who: str, allowed: Sequence[object], **values: object) -> None:
    """Raise InputError unless these arguments of a function are among the allowed values.

    Args:
        who: The function.
        allowed: The values; None, for an argument that is left out, is not named.
        values: The arguments, by name.

    Example:
        >>> one_of("explain", ("auto", "raw"), inputs="raw")
    """
    words = " or ".join(repr(value) for value in allowed if value is not None)
    for name, value in values.items():
        if value not in allowed:
            raise InputError(f"{who}({name}={value!r}) takes {words}.")


def in_interval(value: object, interval: str) -> bool:
    """Is it a number in an interval such as `(0, 1]`? A NaN is in none."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    if not isinstance(value, int | float) or not low <= value <= high:
        return False
    return not (value == low and interval[0] == "(") and not (value == high and interval[-1] == ")")


def seed(value: object, who: str) -> None:
    """Raise InputError unless `value` is an integer in [0, 2**63)."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise InputError(f"{who}(seed={value!r}): a seed must be an integer in [0, 2**63).")


def images(value: Tensor, who: str) -> None:
    """Raise InputError unless `value` is a finite float tensor (B, C, H, W), nowhere empty."""
    fits = isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()
    if not fits or 0 in value.shape:
        raise InputError(
            f"{who} takes images as a float tensor (B, C, H, W) with no empty side; got "
            f"{describe(value)}."
        )
    if bad := finite_rows(value):
        raise InputError(
            f"{who} got NaN or infinite pixels in row {_list(bad)} of {len(value)}; clean or drop "
            "these rows."
        )


def labels(value: Tensor, count: int, num_classes: int, who: str) -> None:
    """Raise InputError unless `value` is int64 (B,) within [0, num_classes)."""
    fits = isinstance(value, Tensor) and value.dtype == torch.int64
    if not fits or tuple(value.shape) != (count,):
        raise InputError(
            f"{who} takes labels as an int64 tensor of shape ({count},), one per image; got "
            f"{describe(value)}."
        )
    outside = ((value < 0) | (value >= num_classes)).nonzero().flatten().tolist()
    if outside:
        wrong = value[outside[0]].item()
        raise InputError(
            f"{who}: label {wrong} in row {outside[0]} is outside 0..{num_classes - 1}."
        )


def logits(value: Tensor, count: int, num_classes: int, who: str, *, first: int = 0) -> None:
    """Raise ContractError unless `value` is a finite float tensor (B, K); `first` is the number of
    its first row, for the message.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != (count, num_classes):
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else name_of(value)
        raise ContractError(
            f"{who} returned {came}; expected logits of shape ({count}, {num_classes})."
        )
    if not value.is_floating_point():
        raise ContractError(
            f"{who} returned {value.dtype}; logits are float: write logits.float()."
        )
    if bad := finite_rows(value):
        raise ContractError(
            f"{who} returned NaN or infinite logits for row {_list([first + i for i in bad])}; "
            "check the model on that image, and on images whose pixels are replaced. Where classes "
            "are masked by -inf, return a finite number, such as logits.clamp_min(-1e4)."
        )


def mask(value: Tensor, like: Tensor, who: str, *, any_size: bool = False) -> None:
    """Raise ContractError unless `value` is a finite mask (B, 1, H, W) in [0, 1] for the images
    `like`.
    """
    batch, _, height, width = like.shape
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    fits = shape is not None and len(shape) == 4 and shape[:2] == (batch, 1) and 0 not in shape
    if not fits or not (any_size or shape == (batch, 1, height, width)):
        wanted = f"({batch}, 1, h, w)" if any_size else f"({batch}, 1, {height}, {width})"
        came = f"shape {shape}" if shape is not None else name_of(value)
        raise ContractError(f"{who} returned {came}; a mask has shape {wanted}.")
    if not value.is_floating_point():
        raise ContractError(
            f"{who} returned {value.dtype}; a mask is float: write mask.to(images.dtype)."
        )
    if bad := finite_rows(value):
        raise ContractError(
            f"{who} returned NaN or infinite values in row {_list(bad)}; a mask is finite: look "
            "for 0 / 0."
        )
    low, high = (float(bound) for bound in value.detach().aminmax())
    if low < 0 or high > 1:
        raise ContractError(
            f"{who} returned values from {low:.4g} to {high:.4g}; a mask must be in [0, 1]: "
            "divide the mask of each image by its maximum, or clamp it."
        )


def maps(
    value: Tensor | None, count: int, who: str, *, flat: bool = False, channels: int = 1
) -> None:
    """Raise ContractError unless `value` is None, float (B, channels, h, w) or, if `flat`, float
    (B,).
    """
    if value is None:
        return
    shape = tuple(value.shape) if isinstance(value, Tensor) and value.is_floating_point() else ()
    fits = len(shape) == 4 and shape[:2] == (count, channels) and 0 not in shape
    if not fits and not (flat and shape == (count,)):
        wanted = f"({count}, {channels}, h, w)" + (f" or ({count},)" if flat else "")
        raise ContractError(f"{who} are {describe(value)}; expected floats {wanted}, or None.")


def per_image(value: Tensor, count: int, who: str, *, nan: bool = False) -> None:
    """Raise ContractError unless `value` is float (B,), finite (or NaN, if `nan`)."""
    fits = isinstance(value, Tensor) and value.is_floating_point()
    if not fits or tuple(value.shape) != (count,):
        raise ContractError(
            f"{who} returned {describe(value)}; expected one float per image, shape ({count},): "
            "reduce dimensions 1, 2, 3."
        )
    if not nan and (bad := finite_rows(value)):
        raise ContractError(
            f"{who} returned a NaN or infinite value in row {_list(bad)}; look for log(0) or a "
            "division by 0."
        )


def describe(value: object) -> str:
    """Dtype and shape of a tensor, the class name of anything else.

    Example:
        >>> describe(torch.zeros(2, 3))
        'torch.float32 of shape (2, 3)'
    """
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return name_of(value)


def _list(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
