"""An Explanation on disk: maps (safetensors), images (PNG) and, last, a JSON manifest."""

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from msgspec import Struct, structs
from PIL import Image
from safetensors.torch import save as to_bytes
from torch import Tensor

from saliencykit.core import checks
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import Output
from saliencykit.explanation.smallest_regions import KINDS, SmallestRegions
from saliencykit.metrics.region_search import RegionForm
from saliencykit.storage.atomic_files import beside, writable
from saliencykit.storage.image_formats import opened_image
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.saved_explanations import is_saved
from saliencykit.storage.tensor_file import read_tensors
from saliencykit.storage.typed_json import Facts, typed
from saliencykit.visualization.mask_overlay import Style

if TYPE_CHECKING:
    from saliencykit.explanation.result import Explanation

FORMAT = "saliencykit-explanation"
VERSION = 2
_TENSORS = (
    "images",
    "labels",
    "mask",
    "logits",
    "preserved",
    "destroyed",
    "replaced",
    "attributions",
    "channel_attributions",
    "standard_error",
    "box_thresholds",
)
_REGION_TENSORS = ("mask", "area", "probability", "boxes")


def save(explanation: "Explanation", directory: Path, style: Style = "outline") -> Path:
    """Write an explanation: `maps.safetensors`, `overlay-*.png`, `image-*.png` and, last,
    `manifest.json`.

    Files are written beside and then moved into place, so that a full disk or a kill leaves the
    previous files as they were.

    Returns:
        The directory.

    Raises:
        InputError: The directory cannot be written, or has the explanations of a data set.
    """
    directory = directory.expanduser()
    writable(directory)
    refuse_run(directory)
    work = beside(directory / "explanation")
    try:
        work.mkdir()
        names = _write(explanation, work, style)
        for name in names:  # the manifest is the last of them
            os.replace(work / name, directory / name)
    except OSError as error:
        raise InputError(
            f"the explanation could not be written to {directory}: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return directory


def refuse_run(directory: Path) -> None:
    """Refuse a directory with a data set's explanations, whose manifest has the same name.

    Raises:
        InputError: The directory has such explanations.
    """
    if is_saved(directory):
        raise InputError(
            f"{directory} has the explanations of a data set; choose another directory (--output)."
        )


def _write(explanation: "Explanation", work: Path, style: Style) -> list[str]:
    tensors = {name: getattr(explanation, name) for name in _TENSORS}
    searches = {}
    for kind in KINDS:
        if (regions := getattr(explanation, kind)) is not None:
            tensors |= {f"{kind}.{name}": getattr(regions, name) for name in _REGION_TENSORS}
            searches[kind] = {name: getattr(regions, name) for name in _Search.__struct_fields__}
    # save_file would write for the owner alone
    content = to_bytes({k: v.contiguous() for k, v in tensors.items() if v is not None})
    (work / "maps.safetensors").write_bytes(content)
    names = ["maps.safetensors"]
    for index in range(len(explanation)):
        image = explanation.source_images[index] if explanation.source_images else None
        if image is not None:
            names.append(f"image-{index:04}.png")
            image.convert("RGB").save(work / names[-1], compress_level=1)
        names.append(f"overlay-{index:04}.png")
        explanation.overlay(index, style=style).save(work / names[-1])
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "files": names,
        "output": explanation.output,
        "class_names": explanation.class_names,
        "geometries": [None if g is None else asdict(g) for g in explanation.geometries],
        "searches": searches,
        "provenance": explanation.provenance,
    }
    (work / "manifest.json").write_text(
        json.dumps(manifest, indent=1, default=str), encoding="utf-8"
    )
    return [*names, "manifest.json"]


def load(directory: Path) -> dict[str, Any]:
    """Read what `save` wrote, as arguments of `Explanation`.

    Raises:
        InputError: There is no complete explanation, or it is damaged or of another format.
    """
    directory = directory.expanduser()
    path, maps = directory / "manifest.json", directory / "maps.safetensors"
    manifest = read_manifest(path, "complete explanation", Struct, format=FORMAT, version=VERSION)
    read = typed(manifest, _Manifest, path)
    tensors, _ = read_tensors(maps)
    try:
        _check(tensors, read.searches)
    except SaliencyKitError as error:
        raise InputError(f"{maps} is damaged: {error}") from error
    count, classes = tensors["logits"].shape
    names = read.class_names
    if len(read.geometries) not in (0, count) or len(names or range(classes)) != classes:
        raise InputError(
            f"{path} is damaged: {maps.name} has {count} images and {classes} classes, and it "
            f"names {len(read.geometries)} and {len(names or ())}."
        )
    images = tuple(
        _source_image(path, geometry) if path.name in read.files else None
        for path, geometry in zip(
            (directory / f"image-{index:04}.png" for index in range(count)),
            read.geometries or (None,) * count,
            strict=True,
        )
    )
    regions: dict[str, Any] = {}
    for kind, search in read.searches.items():
        parts: dict[str, Any] = {name: tensors.pop(f"{kind}.{name}") for name in _REGION_TENSORS}
        regions[kind] = SmallestRegions(**parts, **structs.asdict(search))
    return {
        **tensors,
        **regions,
        "output": read.output,
        "class_names": names,
        "source_images": images,
        "geometries": read.geometries,
        "provenance": read.provenance,
    }


class _Search(Struct):
    limit: float
    form: RegionForm
    queries: int


class _Manifest(Struct):
    files: tuple[str, ...]
    class_names: tuple[str, ...] | None
    geometries: tuple[Geometry | None, ...]
    provenance: Facts
    output: Output = "softmax"
    searches: dict[Literal["sufficient", "destroying"], _Search] = {}


def _check(tensors: dict[str, Tensor], searches: Collection[str]) -> None:
    regions = {f"{kind}.{name}" for kind in searches for name in _REGION_TENSORS}
    unknown = set(tensors) - set(_TENSORS) - regions
    missing = ({"images", "labels", "mask", "logits"} | regions) - set(tensors)
    if unknown or missing:
        raise InputError(f"unknown {sorted(unknown)[:3]}, missing {sorted(missing)}.")
    images, logits = tensors["images"], tensors["logits"]
    checks.images(images, "it")
    count, classes = len(images), logits.shape[1] if logits.ndim == 2 else 1
    for name in {"logits", "preserved", "destroyed"} & set(tensors):
        checks.logits(tensors[name], count, classes, name)
    checks.labels(tensors["labels"], count, classes, "it")
    checks.mask(tensors["mask"], images, "mask")
    checks.maps(tensors.get("attributions"), count, "attributions")
    by_channel = tensors.get("channel_attributions")
    checks.maps(by_channel, count, "channel_attributions", channels=images.shape[1])
    checks.maps(tensors.get("standard_error"), count, "standard_error", flat=True)
    if (thresholds := tensors.get("box_thresholds")) is not None:
        checks.per_image(thresholds, count, "box_thresholds")

    for kind in searches:
        shapes = {"mask": (count, 1, *images.shape[2:]), "boxes": (count, 4)}
        for name in _REGION_TENSORS:
            value, wanted = tensors[f"{kind}.{name}"], shapes.get(name, (count,))
            if tuple(value.shape) != wanted or (value.dtype == torch.bool) != (name == "mask"):
                raise InputError(f"{kind}.{name} is {checks.describe(value)}.")


def _source_image(path: Path, geometry: Geometry | None) -> Image.Image:
    with opened_image(path) as image:
        if geometry is not None and geometry.source_size != (image.height, image.width):
            raise InputError(
                f"{path} has {image.height} x {image.width} pixels; the manifest says "
                f"{geometry.source_size[0]} x {geometry.source_size[1]}."
            )
        return image.copy()
