"""Images in any form as a batch of tensors: the one place where they are read."""

import os
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliencykit.black_boxes.pixel_range import in_range, is_deep
from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.checks import finite_rows, name_of, one_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images
from saliencykit.data.image_arrays import (
    SLACK,
    Bands,
    ReadImage,
    array_rows,
    range_advice,
    tensor_rows,
)
from saliencykit.data.image_files import decoded_image, open_image, refuse_url, upright_image
from saliencykit.storage.locations import location

Pixels: TypeAlias = Literal["auto", "raw", "normalized"]


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
    Arrays of other numbers of channels are raw too, must have the model's size, and keep their
    precision. Float tensors are used as they are. With a `black_box.pixel_range`, everything raw of
    more than 8 bits is scaled by it.

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
    one_of("explain", get_args(Pixels), inputs=inputs)
    items = list(image) if isinstance(image, list | tuple) else [image]
    if not items:
        raise InputError(
            "there are no images in an empty list; give at least one path, image, array or tensor."
        )
    with torch.inference_mode(False), torch.no_grad():
        read = [
            entry
            for row, item in enumerate(items)
            for entry in _read(item, row if len(items) > 1 else None, black_box)
        ]
        kind = _kind(read, black_box, inputs, given_black_box)
        parts: list[Tensor] = []
        places: list[Geometry | None] = []
        for source, thing in read:
            part, place = (
                _checked(thing, kind, source, black_box)
                if isinstance(thing, Tensor)
                else _banded(thing.values, black_box, source)
                if isinstance(thing, Bands)
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
    sources = tuple(thing if isinstance(thing, Image.Image) else None for _, thing in read)
    return ImageBatch(whole, kind, tuple(places), sources, tuple(name for name, _ in read))


def _kind(
    read: list[tuple[str, ReadImage]],
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
    known = given_black_box and black_box.baseline_color is not None
    if not tensors or not _has_own_inputs(black_box) or known:
        return "raw"
    if decoded:
        raise InputError(
            f"{decoded[0]} is an image and {tensors[0]} a tensor, which model(x) takes as it "
            "is; explain them apart, or write inputs='raw' if the tensors are RGB in [0, 1]."
        )
    return "normalized"


def _has_own_inputs(black_box: BlackBox) -> bool:
    """Does the model take inputs of its own: a torch module, not a function or a service?"""
    while isinstance(black_box, BlackBoxWrapper):
        black_box = black_box.black_box
    return type(black_box).without_preprocessing is not BlackBox.without_preprocessing


def _read(item: Any, row: int | None, black_box: BlackBox) -> list[tuple[str, ReadImage]]:
    """Named tensors (1, C, H, W) and upright PIL images from one thing that a user gave."""
    name = "the image" if row is None else f"image {row}"
    if isinstance(item, str | os.PathLike):
        refuse_url(str(item))
        path = location(item)
        return [(str(path), _scaled(open_image(path), black_box, str(path)))]
    if isinstance(item, bytes):
        return [(name, _scaled(decoded_image(item, name), black_box, name))]
    if isinstance(item, Tensor):
        return tensor_rows(item, name, black_box)
    if isinstance(item, np.ndarray):
        return array_rows(item, name, black_box)
    if isinstance(item, Image.Image):
        name = str(getattr(item, "filename", "")) or name
        return [(name, _scaled(upright_image(item, name), black_box, name))]
    raise InputError(
        f"{name} is a {name_of(item)}; an image is a path, the bytes of an image file, a PIL "
        "image, a numpy array (H, W, C), a tensor (C, H, W) or (B, C, H, W), or a list of these."
    )


def _scaled(image: Image.Image, black_box: BlackBox, name: str) -> Image.Image:
    """An image of 8 bits, scaled by the pixel range of the black box where it has one."""
    if black_box.pixel_range is None or not is_deep(image):
        return image
    if image.format == "PPM":
        raise InputError(
            f"{name} is a PGM file, which declares its own white; Pillow has scaled it. Leave "
            "pixel_range= out for such files, or give arrays."
        )
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinite values; clean or drop it.")
    scaled = np.rint(in_range(values, black_box.pixel_range) * 255).astype(np.uint8)
    return Image.fromarray(scaled)


def _checked(
    tensor: Tensor, kind: Literal["raw", "normalized"], name: str, black_box: BlackBox
) -> tuple[Tensor, None]:
    if black_box.pixel_range is not None:
        if kind == "normalized":
            raise InputError(
                f"{name} is a tensor that model(x) takes, and pixel_range= is for raw images; "
                "leave it out, or write inputs='raw' for a black box with mean and std."
            )
        tensor = torch.from_numpy(in_range(tensor.numpy(), black_box.pixel_range))
    low, high = (float(v) for v in tensor.aminmax())
    if kind == "raw" and (low < -SLACK or high > 1 + SLACK):
        raise InputError(
            f"{name} has values from {low:.4g} to {high:.4g}; raw pixels must be in [0, 1]. "
            f"{range_advice(low, high)}"
        )
    return tensor, None


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


def _banded(images: Tensor, black_box: BlackBox, name: str) -> tuple[Tensor, Geometry]:
    """Raw bands for a black box: checked, at their own size."""
    color, channels = black_box.baseline_color, images.shape[1]
    if color is None and _has_own_inputs(black_box):
        raise InputError(
            f"{name} is an array of {channels} channels, and the pixel statistics of "
            f"{name_of(black_box.module)} are unknown. Write TorchBlackBox(model, mean=(...), "
            f"std=(...)) with {channels} numbers each, or give the tensor that model(x) takes: "
            "torch.from_numpy(x).permute(2, 0, 1)."
        )
    if color is not None and len(color) != channels:
        raise InputError(f"{name} has {channels} channels, and the model takes {len(color)}.")
    height, width = size = (images.shape[2], images.shape[3])
    return images, Geometry(size, (0.0, 0.0, float(width), float(height)), size)
