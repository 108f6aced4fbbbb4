"""Images in any form as a batch of tensors: the only place that decodes images."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import finite_rows, name_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images

Pixels: TypeAlias = Literal["auto", "raw", "normalized"]
_SLACK = 1e-6  # resizing or dividing may exceed 1 by a rounding error


@final
@dataclass(frozen=True)
class ImageBatch:
    """Images that are ready for a black box, and their sources.

    Attributes:
        images: (B, C, H, W) on the CPU, float32; float64 if a float64 tensor was given.
        inputs: What the values are: `raw` RGB in [0, 1], or `normalized`: what `model(x)` takes.
        geometries: Where each image lies in its source image; None for tensors.
        source_images: The source images, upright; None for tensors.
        sources: The name of each: a path, or `image 3`.
    """

    images: Images
    inputs: Literal["raw", "normalized"]
    geometries: tuple[Geometry | None, ...]
    source_images: tuple[Image.Image | None, ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        """B, the number of images."""
        return len(self.images)


def as_images(
    image: Any, black_box: BlackBox, *, inputs: Pixels = "auto", given_black_box: bool = True
) -> ImageBatch:
    """Read images of any form for a black box.

    Paths, PIL images (rotated as their EXIF data says), uint8 arrays and tensors, and float arrays
    (H, W, C) in [0, 1], which are rounded to 8 bits, are raw and go through `black_box.prepare`.
    Float tensors are used as they are.

    Args:
        image: A path, a PIL image, a numpy array (H, W, C), (H, W) or (B, H, W, C), a tensor (C,
            H, W) or (B, C, H, W), or a list of any of these.
        black_box: The classifier that will be queried.
        inputs: What float tensors hold. `raw`: RGB in [0, 1], checked. `normalized`: what
            `model(x)` takes. `auto`: `normalized` for a bare model or a black box without pixel
            statistics, else `raw`.
        given_black_box: Whether the user gave a BlackBox or a name (True), or a bare model (False).

    Raises:
        InputError: An image cannot be used; the message names the file or the row, and says what
            to write.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> black_box = TorchBlackBox(torch.nn.Flatten(), mean=(0.5,), std=(0.5,), size=8)
        >>> as_images([np.zeros((20, 30), np.uint8)], black_box).geometries[0].source_size
        (20, 30)
    """
    if inputs not in ("auto", "raw", "normalized"):
        raise InputError(f"inputs must be 'auto', 'raw' or 'normalized'; got {inputs!r}.")
    items = list(image) if isinstance(image, list | tuple) else [image]
    if not items:
        raise InputError(
            "there are no images in an empty list; give at least one path, image, array or tensor."
        )
    with torch.inference_mode(False), torch.no_grad():
        read = [
            entry
            for row, item in enumerate(items)
            for entry in _read(item, row if len(items) > 1 else None)
        ]
        kind = _kind(read, black_box, inputs, given_black_box)
        parts: list[Tensor] = []
        places: list[Geometry | None] = []
        for source, thing in read:
            part, place = (
                _checked(thing, kind, source)
                if isinstance(thing, Tensor)
                else _prepared(thing, black_box, source)
            )
            if parts and part.shape[1:] != parts[0].shape[1:]:
                raise InputError(
                    f"{source} has (channels, height, width) {tuple(part.shape[1:])} and "
                    f"{read[0][0]} {tuple(parts[0].shape[1:])}; one batch has one size: resize "
                    "them first, or explain them one by one."
                )
            parts.append(part)
            places.append(place)
        whole = torch.cat(parts)
    sources = tuple(None if isinstance(thing, Tensor) else thing for _, thing in read)
    return ImageBatch(whole, kind, tuple(places), sources, tuple(name for name, _ in read))


def _kind(
    read: list[tuple[str, Tensor | Image.Image]],
    black_box: BlackBox,
    inputs: Pixels,
    given_black_box: bool,
) -> Literal["raw", "normalized"]:
    tensors = [source for source, thing in read if isinstance(thing, Tensor)]
    decoded = [source for source, thing in read if not isinstance(thing, Tensor)]
    if inputs == "normalized" and decoded:
        raise InputError(
            f"{decoded[0]} is an image, and inputs='normalized' is for tensors that model(x) "
            "takes; leave inputs out."
        )
    if inputs != "auto":
        return inputs
    # a model with inputs of its own: a torch module, not a function or a service
    has_own_inputs = type(black_box).without_preprocessing is not BlackBox.without_preprocessing
    if (
        not tensors
        or not has_own_inputs
        or (given_black_box and black_box.baseline_color is not None)
    ):
        return "raw"
    if decoded:
        raise InputError(
            f"{decoded[0]} is an image and {tensors[0]} a tensor, which model(x) takes as it "
            "is; explain them apart, or write inputs='raw' if the tensors are RGB in [0, 1]."
        )
    return "normalized"


def _read(item: Any, row: int | None) -> list[tuple[str, Tensor | Image.Image]]:
    """Named tensors (1, C, H, W) and upright PIL images from one thing that a user gave."""
    name = "the image" if row is None else f"image {row}"
    if isinstance(item, str | os.PathLike):
        path = Path(item).expanduser()
        return [(str(path), _open(path))]
    if isinstance(item, Tensor):
        return _tensor_rows(item.detach().as_subclass(Tensor), name)
    if isinstance(item, np.ndarray):
        return _array_rows(item, name)
    if isinstance(item, Image.Image):
        name = str(getattr(item, "filename", "")) or name
        return [(name, _upright(item, name))]
    raise InputError(
        f"{name} is a {name_of(item)}; an image is a path, a PIL image, a numpy array (H, W, "
        "C), a tensor (C, H, W) or (B, C, H, W), or a list of these. For bytes write "
        "PIL.Image.open(io.BytesIO(data))."
    )


def _open(path: Path) -> Image.Image:
    if str(path).startswith(("http:/", "https:/")):
        raise InputError(f"{str(path)!r} is a URL; download the image and give its path.")
    if path.is_dir():
        raise InputError(
            f"{str(path)!r} is a folder; explain(model, "
            f"saliencykit.data.read_folder({str(path)!r})) takes its images."
        )
    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}.")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{str(path)!r} is empty (0 bytes).")
        with Image.open(path) as image:
            image.load()
            return _upright(image, repr(str(path)))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is not an image that Pillow can read.") from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{str(path)!r} is too large to be opened safely ({error}) Resize it first: "
            "models see a few hundred pixels."
        ) from error
    # truncated or damaged: Pillow raises OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        raise InputError(
            f"{str(path)!r} cannot be read, it is truncated or damaged: {error}."
        ) from error


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        if (
            getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
        ):  # MPO: a photo with a hidden second one
            frames = getattr(image, "n_frames", 1)
            warnings.warn(f"{name} has {frames} frames; the first one is explained.", stacklevel=2)
            image.seek(0)
        image.load()
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise InputError(f"{name} cannot be read, it is truncated or damaged: {error}.") from error
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data do not matter
        return image.copy()


def _tensor_rows(tensor: Tensor, name: str) -> list[tuple[str, Tensor | Image.Image]]:
    shape = tuple(tensor.shape)
    if tensor.ndim not in (3, 4) or 0 in shape:
        hint = " Write x[None] for one gray image." if tensor.ndim == 2 else ""
        raise InputError(
            f"{name} is a tensor of shape {shape}; expected (C, H, W) or (B, C, H, W), with no "
            f"empty side.{hint}"
        )
    if shape[-1] in (1, 3, 4) and shape[-3] > 4:
        order = "2, 0, 1" if tensor.ndim == 3 else "0, 3, 1, 2"
        raise InputError(
            f"{name} is a tensor of shape {shape}, with its channels last; write "
            f"x.permute({order})."
        )
    rows = tensor[None] if tensor.ndim == 3 else tensor
    names = (
        [name]
        if len(rows) == 1
        else [f"image {i}" if name == "the image" else f"{name}, row {i}" for i in range(len(rows))]
    )
    if tensor.dtype == torch.uint8:
        array = rows.permute(0, 2, 3, 1).cpu().numpy()
        return [(source, _as_pil(row, source)) for source, row in zip(names, array, strict=True)]
    if not tensor.is_floating_point():
        raise InputError(
            f"{name} is a tensor of {tensor.dtype}; expected float, or uint8 in 0..255: write "
            "x.to(torch.uint8)."
        )
    for source, row in zip(names, rows, strict=True):
        if finite_rows(row[None]):
            raise InputError(f"{source} holds NaN or infinite values; clean or drop it.")
    wide = rows.cpu().to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return list(zip(names, (row[None] for row in wide), strict=True))


def _array_rows(
    array: "np.ndarray[Any, np.dtype[Any]]", name: str
) -> list[tuple[str, Tensor | Image.Image]]:
    shape = array.shape
    last = 1 if array.ndim == 2 else shape[-1] if array.ndim in (3, 4) else 0
    if last not in (1, 3, 4) or 0 in shape:
        if array.ndim in (3, 4) and shape[-3] in (1, 3, 4) and 0 not in shape:
            order = "1, 2, 0" if array.ndim == 3 else "0, 2, 3, 1"
            raise InputError(
                f"{name} is an array of shape {shape}, with its channels first; write "
                f"x.transpose({order}), or torch.from_numpy(x) if it is what model(x) takes."
            )
        raise InputError(
            f"{name} is an array of shape {shape}; expected (H, W, C) with C = 1, 3 or 4, (H, W), "
            "or (B, H, W, C)."
        )
    rows = array if array.ndim == 4 else array[None]
    names = (
        [name]
        if len(rows) == 1
        else [f"image {i}" if name == "the image" else f"{name}, row {i}" for i in range(len(rows))]
    )
    return [(source, _as_pil(row, source)) for source, row in zip(names, rows, strict=True)]


def _as_pil(values: "np.ndarray[Any, np.dtype[Any]]", name: str) -> Image.Image:
    """An array (H, W) or (H, W, C) as a PIL image."""
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise InputError(f"{name} holds NaN or infinite values; clean or drop it.")
        if low < -_SLACK or high > 1 + _SLACK:
            raise InputError(
                f"{name} has values from {low:.4g} to {high:.4g}; a float array is RGB in [0, 1]. "
                f"{_advice(low, high)}"
            )
        values = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    elif values.dtype == np.uint16:
        values = np.rint(values / 257.0).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise InputError(
            f"{name} is an array of {values.dtype}; expected uint8 in 0..255 or float in [0, 1]: "
            "write x.astype('uint8')."
        )
    flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if flat.ndim == 3 and flat.shape[2] not in (3, 4):
        raise InputError(f"{name} has {flat.shape[2]} channels; an image has 1, 3 or 4 (RGBA).")
    return Image.fromarray(np.ascontiguousarray(flat))


def _checked(tensor: Tensor, kind: Literal["raw", "normalized"], name: str) -> tuple[Tensor, None]:
    low, high = (float(v) for v in tensor.aminmax())
    if kind == "raw" and (low < -_SLACK or high > 1 + _SLACK):
        raise InputError(
            f"{name} has values from {low:.4g} to {high:.4g}; raw pixels must be in [0, 1]. "
            f"{_advice(low, high)}"
        )
    return tensor, None


def _advice(low: float, high: float) -> str:
    if low >= 0 and 1.5 < high <= 255:
        return "If it holds 0..255, write x / 255."
    if low >= -0.1 and high <= 1.1:
        return "If resizing overshot, write x.clip(0, 1)."
    return "If it is already normalized, give a tensor and write inputs='normalized'."


def _prepared(image: Image.Image, black_box: BlackBox, name: str) -> tuple[Tensor, Geometry]:
    try:
        images, geometry = black_box.prepare(image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if (
        not isinstance(images, Tensor)
        or images.ndim != 4
        or len(images) != 1
        or not isinstance(geometry, Geometry)
        or finite_rows(images)
    ):
        raise ContractError(
            f"{name_of(black_box)}.prepare must return finite images (1, C, H, W) and a Geometry."
        )
    return images.detach().cpu(), geometry
