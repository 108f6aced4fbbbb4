"""An Explanation on disk: maps (safetensors), images (PNG) and, last, a JSON manifest."""

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.storage.atomic_files import writable
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.saved_explanations import is_saved

if TYPE_CHECKING:
    from saliencykit.explanation.result import Explanation

FORMAT = "saliencykit-explanation"
VERSION = 1
_TENSORS = (
    "images",
    "labels",
    "mask",
    "logits",
    "preserved",
    "destroyed",
    "replaced",
    "attributions",
    "standard_error",
)


def save(explanation: "Explanation", directory: Path) -> Path:
    """Write an explanation: `maps.safetensors`, `overlay-*.png`, `picture-*.png` and, last,
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
    work = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory))
    try:
        names = _write(explanation, work)
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


def _write(explanation: "Explanation", work: Path) -> list[str]:
    tensors = {name: getattr(explanation, name) for name in _TENSORS}
    try:
        save_file(
            {k: v.contiguous() for k, v in tensors.items() if v is not None},
            work / "maps.safetensors",
        )
    except Exception as error:  # safetensors has its own error for a full disk
        raise OSError(str(error)) from error
    names = ["maps.safetensors"]
    for index in range(len(explanation)):
        picture = explanation.source_images[index] if explanation.source_images else None
        if picture is not None:
            names.append(f"picture-{index:04}.png")
            picture.convert("RGB").save(work / names[-1], compress_level=1)
        names.append(f"overlay-{index:04}.png")
        explanation.overlay(index).save(work / names[-1])
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "files": names,
        "output": explanation.output,
        "class_names": explanation.class_names,
        "geometries": [None if g is None else asdict(g) for g in explanation.geometries],
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
    path = directory / "manifest.json"
    manifest = read_manifest(path, "complete explanation", format=FORMAT, version=VERSION)
    try:
        tensors = load_file(directory / "maps.safetensors")
        _check(tensors)
        count = len(tensors["images"])
        pictures: list[Image.Image | None] = []
        for index in range(count):
            path = directory / f"picture-{index:04}.png"
            pictures.append(Image.open(path).copy() if path.name in manifest["files"] else None)
        names = manifest["class_names"]
        return {
            **tensors,
            "output": manifest.get("output", "softmax"),
            "class_names": None if names is None else tuple(names),
            "source_images": tuple(pictures),
            "geometries": tuple(
                None if g is None else _geometry(g) for g in manifest["geometries"]
            ),
            "provenance": manifest["provenance"],
        }
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the explanation in {directory} is damaged: {type(error).__name__}: {error}."
        ) from error


def _check(tensors: dict[str, Tensor]) -> None:
    unknown = set(tensors) - set(_TENSORS)
    missing = {"images", "labels", "mask", "logits"} - set(tensors)
    sizes = {len(tensor) for tensor in tensors.values()}
    if unknown or missing or len(sizes) > 1:
        raise InputError(
            f"maps.safetensors does not fit: unknown {unknown}, missing {missing}, rows "
            f"{sorted(sizes)}."
        )


def _geometry(data: dict[str, Any]) -> Geometry:
    return Geometry(**{name: tuple(value) for name, value in data.items()})
