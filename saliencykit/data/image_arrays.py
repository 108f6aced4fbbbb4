"""Arrays and tensors as images: which axis is which, and what the numbers mean."""

import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from saliencykit.black_boxes.pil_modes import white_level
from saliencykit.black_boxes.pixel_range import in_range
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import finite_rows, name_of
from saliencykit.core.errors import InputError

SLACK = 1e-6  # resizing or dividing may exceed 1 by a rounding error
_MOST_CHANNELS = 16  # a longer last axis of an array is a side, not channels


@final
@dataclass(frozen=True)
class Bands:
    """A raw image (1, C, H, W) that PIL has no mode for."""

    values: Tensor


ReadImage: TypeAlias = Tensor | Image.Image | Bands
"""A tensor (1, C, H, W) as the user gave it, or a raw image."""


def _volume_advice(shape: tuple[int, ...]) -> str:
    """What to write for (B, C, D, H, W), or a clip (B, T, C, H, W): the inner axis as channels."""
    if len(shape) != 5:
        return ""
    return (
        " A volume or a clip is explained with its slices as channels, by one mask for all: write "
        f"explain(nn.Sequential(nn.Unflatten(1, {shape[1:3]}), model), x.flatten(1, 2)); "
        "explain_video explains single frames."
    )


def _has_values(tensor: Tensor) -> bool:
    """Has it memory with its values? Those on meta, fake ones and those of transforms have not."""
    try:
        tensor.detach().flatten()[:1].tolist()
        return tensor.numel() == 0 or tensor.detach().data_ptr() != 0
    except Exception:  # of several classes
        return False


def tensor_rows(tensor: Tensor, name: str, black_box: BlackBox) -> list[tuple[str, ReadImage]]:
    """The named images of a tensor: floats as they are, uint8 as PIL images.

    Args:
        tensor: (C, H, W) or (B, C, H, W).
        name: For messages.
        black_box: Says whether four channels are its own or RGBA.

    Raises:
        InputError: It has another shape or number type, or is not finite; the message says what to
            write.
    """
    plain = tensor.layout is torch.strided and not tensor.is_nested and _has_values(tensor)
    if not plain or tensor.is_complex() or tensor.is_quantized:
        kind = "nested" if tensor.is_nested else tensor.layout
        raise InputError(
            f"{name} is a {name_of(tensor)} of {tensor.dtype} ({kind}, on {tensor.device}); "
            "expected plain values: write x.to_dense(), x.dequantize() or x.abs() before; inside "
            "of a transform of torch.func, or of a fake or masked tensor, no values can be read."
        )
    tensor, shape = tensor.detach().as_subclass(Tensor), tuple(tensor.shape)
    if tensor.is_floating_point() and tensor.element_size() == 1:  # torch computes little with them
        tensor = tensor.float()
    if tensor.ndim not in (3, 4) or 0 in shape:
        hint = " Write x[None] for one gray image." if tensor.ndim == 2 else _volume_advice(shape)
        raise InputError(
            f"{name} is a tensor of shape {shape}; expected (C, H, W) or (B, C, H, W), with no "
            f"empty side.{hint}"
        )
    if shape[-1] in (1, 3, 4) and shape[-3] > 4 and _num_channels(black_box) != shape[-3]:
        order = "2, 0, 1" if tensor.ndim == 3 else "0, 3, 1, 2"
        raise InputError(
            f"{name} is a tensor of shape {shape}, with its channels last; write "
            f"x.permute({order})."
        )
    rows = tensor[None] if tensor.ndim == 3 else tensor
    names = _row_names(name, len(rows))
    if tensor.dtype == torch.uint8:
        array = rows.permute(0, 2, 3, 1).cpu().numpy()
        return _raw_rows(array, name, black_box)
    if black_box.pixel_range is not None and tensor.dtype != torch.bool:
        rows = rows.double()  # of any number type: they are scaled
    elif not tensor.is_floating_point():
        raise InputError(
            f"{name} is a tensor of {tensor.dtype}; expected float, or uint8 in 0..255: write "
            f"{_integer_advice(tensor, 'x.to(torch.uint8)', 'x.float()')}."
        )
    for source, row in zip(names, rows, strict=True):
        if finite_rows(row[None]):
            raise InputError(f"{source} holds NaN or infinite values; clean or drop it.")
    wide = rows.cpu().to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return list(zip(names, (row[None] for row in wide), strict=True))


def array_rows(
    array: "np.ndarray[Any, np.dtype[Any]]", name: str, black_box: BlackBox
) -> list[tuple[str, ReadImage]]:
    """The named raw images of an array.

    Args:
        array: (H, W), (H, W, C) or (B, H, W, C): uint8, uint16, bool, or float in [0, 1]; with a
            pixel range numbers of any type.
        name: For messages.
        black_box: Says whether four channels are its own or RGBA, and has the pixel range.

    Raises:
        InputError: It has another shape, number type or range; the message says what to write.
    """
    shape = array.shape
    last = 1 if array.ndim == 2 else shape[-1] if array.ndim in (3, 4) else 0
    first = shape[-3] if array.ndim in (3, 4) else 0
    swapped = first in (1, 3, 4) and last not in (1, 3, 4)
    if swapped or not 1 <= last <= _MOST_CHANNELS or 0 in shape:
        if 1 <= first <= _MOST_CHANNELS and 0 not in shape:
            order = "1, 2, 0" if array.ndim == 3 else "0, 2, 3, 1"
            raise InputError(
                f"{name} is an array of shape {shape}, with its channels first; write "
                f"x.transpose({order}), or torch.from_numpy(x) if it is what model(x) takes."
            )
        advice = _volume_advice(shape)
        advice += advice and " Here x is torch.from_numpy(array)."
        raise InputError(
            f"{name} is an array of shape {shape}; expected (H, W, C) with C up to "
            f"{_MOST_CHANNELS}, (H, W), or (B, H, W, C).{advice}"
        )
    if array.ndim > 2:
        _warn_of_layout(shape, name, black_box)
    if isinstance(array, np.ma.MaskedArray) and array.mask.any():
        raise InputError(
            f"{name} has masked pixels; write x.filled(0), or with another value for them."
        )
    usual = array.dtype.kind == "f" or array.dtype in (np.uint8, np.uint16, np.bool_)
    if not usual and (black_box.pixel_range is None or array.dtype.kind not in "iu"):
        is_number = array.dtype.kind in "iu"
        advice = "x.astype('uint8')"
        advice = _integer_advice(array, advice, "x.astype(float)") if is_number else advice
        raise InputError(
            f"{name} is an array of {array.dtype}; expected uint8 in 0..255, uint16, or float in "
            f"[0, 1]: write {advice}."
        )
    shown = array[:, :, None] if array.ndim == 2 else array
    return _raw_rows(shown if shown.ndim == 4 else shown[None], name, black_box)


def _warn_of_layout(shape: tuple[int, ...], name: str, black_box: BlackBox) -> None:
    """Warn where the first axis of an image may be its channels as well as the last one.

    Raises:
        InputError: Only the first one can be.
    """
    first, height, last = shape[-3:]
    taken = _num_channels(black_box)
    as_last = last in ((1, 3, 4) if taken in (1, 3) else (taken or last,))
    usual = last in (1, 3, 4) and first not in (1, 3, 4)
    usual = taken is None and (usual or black_box.module is not None)  # which refuses it later
    other = first != (taken or first) or first > _MOST_CHANNELS
    if usual or other or first == height == last == 1:
        return
    order = "1, 2, 0" if len(shape) == 3 else "0, 2, 3, 1"
    line = f"x.transpose({order}), or torch.from_numpy(x) if it is what model(x) takes"
    if not as_last:
        raise InputError(
            f"{name} is an array of shape {shape}, and the model takes {taken} channels, which "
            f"must be last; write {line}."
        )
    warnings.warn(
        f"{name} is an array of shape {shape}, read as {first} x {height} pixels of {last} "
        f"channels; if its channels are first, write {line}.",
        stacklevel=2,
    )


def _num_channels(black_box: BlackBox) -> int | None:
    """How many channels the model takes; None if it does not say."""
    if black_box.baseline_color is not None:
        return len(black_box.baseline_color)
    layers = () if black_box.module is None else black_box.module.modules()
    counts = (layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d))
    return next(counts, getattr(black_box, "channels", None))


def _raw_rows(
    rows: "np.ndarray[Any, np.dtype[Any]]", name: str, black_box: BlackBox
) -> list[tuple[str, ReadImage]]:
    """The named raw images of an array (B, H, W, C)."""
    if black_box.pixel_range is not None and rows.dtype not in (np.uint8, np.bool_):
        rows = in_range(rows, black_box.pixel_range)
    elif rows.dtype == np.uint16:
        rows = rows / np.float32(white_level(rows))
    # four channels are RGBA, unless the model takes four
    color, last = black_box.baseline_color, rows.shape[-1]
    banded = last not in (1, 3, 4) or (last == 4 and color is not None and len(color) == 4)
    read = _as_bands if banded else _as_pil
    names = _row_names(name, len(rows))
    return [(row_name, read(row, row_name)) for row_name, row in zip(names, rows, strict=True)]


def _row_names(name: str, count: int) -> list[str]:
    if count == 1:
        return [name]
    return [f"image {i}" if name == "the image" else f"{name}, row {i}" for i in range(count)]


def _integer_advice(values: Any, as_bytes: str, as_float: str) -> str:
    """What to write for integers that are not uint8."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255:
        return as_bytes
    if low < 0:
        return f"pixel_range=({low:.0f}, {max(high, low + 1):.0f}), the values of black and white"
    return as_float if high <= 1 else f"x / {4095 if high <= 4095 else 65535}, the value of white"


def _as_bands(values: "np.ndarray[Any, np.dtype[Any]]", name: str) -> Bands:
    """An array (H, W, C) as raw values in [0, 1]."""
    raw = _raw(values, name)
    return Bands(torch.from_numpy(raw.transpose(2, 0, 1).copy())[None])


def _as_pil(values: "np.ndarray[Any, np.dtype[Any]]", name: str) -> Image.Image:
    """An array (H, W, C) as a PIL image."""
    if values.dtype != np.uint8:
        values = np.rint(_raw(values, name) * 255).astype(np.uint8)
    flat = values[:, :, 0] if values.shape[2] == 1 else values
    return Image.fromarray(np.ascontiguousarray(flat))


def _raw(
    values: "np.ndarray[Any, np.dtype[Any]]", name: str
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Values of any number type in [0, 1]."""
    if values.dtype.kind != "f":
        return values.astype(np.float32) / np.float32(255 if values.dtype == np.uint8 else 1)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name} holds NaN or infinite values; clean or drop it.")
    if low < -SLACK or high > 1 + SLACK:
        raise InputError(
            f"{name} has values from {low:.4g} to {high:.4g}; a float array is raw, in [0, 1]. "
            f"{range_advice(low, high)}"
        )
    return values.clip(0, 1).astype(np.float32)


def range_advice(low: float, high: float) -> str:
    """What to write for values that should be in [0, 1]."""
    if low >= 0 and high > 1.5:
        white = next((level for level in (255, 4095, 65535) if high <= level), f"{high:.6g}")
        return f"If it holds 0..{white}, write x / {white}."
    if low >= -0.1 and high <= 1.1:
        return "If resizing overshot, write x.clip(0, 1)."
    return "If it is already normalized, give a tensor and write inputs='normalized'."
