"""Shards: files of many maps. An open shard grows record by record; a finished one is a safetensors
file.

A process writes into `maps-0-3.open`, block by block. When that is large enough the maps go to
`maps-0-3.safetensors`, written beside and moved into place, and the open file is deleted. A kill
can come between any two of these steps: an incomplete record at the end of an open file is ignored,
and an open file beside a finished one of the same name is no longer needed.
"""

import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, final

import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from saliencykit.core.checks import describe
from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import append_bytes, write_beside
from saliencykit.storage.tensor_file import read_tensors
from saliencykit.storage.typed_json import MAX_PIXELS

Precision: TypeAlias = Literal["uint8", "float16"]
PRECISIONS = ("uint8", "float16")
_HEAD = struct.Struct("<4sQI")  # mark, length, checksum
_MARK = b"maps"
_LARGEST = 64 * 2**20  # bytes of a shard: read into memory once, when it is finished


def packed(mask: Tensor, precision: Precision) -> Tensor:
    """A mask in [0, 1] as it is stored: `uint8`, accurate to 1/510, or `float16`, to 1/4096.

    Args:
        mask: Of any shape.
        precision: `uint8` or `float16`.

    Example:
        >>> packed(torch.tensor([0.0, 0.5, 1.0]), "uint8").tolist()
        [0, 128, 255]
    """
    mask = mask.detach().float().clamp(0, 1).cpu()
    return (mask * 255).round().to(torch.uint8) if precision == "uint8" else mask.half()


def unpacked(stored: Tensor) -> Tensor:
    """The reverse of `packed`, float32 in [0, 1].

    Args:
        stored: uint8 or float16, of any shape.
    """
    return stored.float() / 255 if stored.dtype == torch.uint8 else stored.float()


@final
@dataclass
class ShardWriter:
    """Writes the maps of one process.

    Args:
        folder: The run directory.
        rank: Of the process.
        number: Of its next shard.
        most: Maps in one shard.
    """

    folder: Path
    rank: int
    number: int
    most: int = 1024
    _held: int = field(default=0, init=False)

    def add(self, maps: Mapping[str, Tensor]) -> str:
        """Write maps by their keys; when this returns, they survive a kill of the process.

        Returns:
            The shard's name.

        Raises:
            SaliencyKitError: The disk is full, or the directory cannot be written.
        """
        path = self._path
        if self._held and (self._held + len(maps) > self.most or path.stat().st_size > _LARGEST):
            self.finish()
            path = self._path
        append_maps(path, maps)
        self._held += len(maps)
        return path.stem

    def finish(self) -> None:
        """Turn the open shard, if there is one, into a safetensors file.

        Raises:
            SaliencyKitError: The disk is full, or the directory cannot be written.
        """
        if self._held:
            finish_shard(self._path)
            self.number, self._held = self.number + 1, 0

    @property
    def _path(self) -> Path:
        return self.folder / f"maps-{self.rank}-{self.number}.open"


def append_maps(path: Path, maps: Mapping[str, Tensor]) -> None:
    """Append a record.

    Args:
        path: The open shard, created if needed.
        maps: As they are to be stored, (h, w), by key.

    Raises:
        SaliencyKitError: The disk is full, or the file cannot be written.
    """
    body = save({key: value.contiguous() for key, value in maps.items()})
    append_bytes(path, _HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body)


def read_open(path: Path) -> dict[str, Tensor]:
    """The maps of an open shard, up to the first incomplete record; none if there is no such file.

    Args:
        path: The open shard.

    Raises:
        InputError: It cannot be read.
    """
    maps: dict[str, Tensor] = {}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return maps
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    start = 0
    while start + _HEAD.size <= len(data):
        mark, length, checksum = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        body = data[start : start + length]
        if mark != _MARK or len(body) < length or zlib.crc32(body) != checksum:
            break
        try:
            maps |= load(body)
        except Exception:  # written by somebody else: the checksum fits and the content does not
            break
        start += length
    return maps


def finish_shard(path: Path, keys: Collection[str] | None = None) -> None:
    """Turn an open shard into a safetensors file of the same name, unless it has no maps.

    Args:
        path: The open shard; deleted at the end.
        keys: Of the maps to keep; None for all.

    Raises:
        SaliencyKitError: The disk is full; the open shard stays.
    """
    done = path.with_suffix(".safetensors")
    if not done.exists():
        maps = {key: value for key, value in read_open(path).items() if keys is None or key in keys}
        if maps:
            write_beside(done, lambda beside: beside.write_bytes(save(maps)))
    path.unlink(missing_ok=True)


def shard_keys(folder: Path, name: str) -> set[str]:
    """The keys of a finished shard; none if it is missing or damaged.

    Args:
        folder: The run directory.
        name: The shard's, without ending.
    """
    try:
        with safe_open(folder / f"{name}.safetensors", framework="pt") as file:
            return set(file.keys())
    except Exception:  # safetensors has an error of its own for damage
        return set()


def read_map(folder: Path, name: str, key: str) -> Tensor:
    """One map (h, w) as it is stored; the others of the shard are not read.

    Args:
        folder: The run directory.
        name: The shard's, without ending.
        key: The map's.

    Raises:
        InputError: The shard is missing or damaged, or has no such map.
    """
    path = folder / f"{name}.safetensors"
    stored = None if path.exists() else read_open(folder / f"{name}.open").get(key)
    if stored is None:
        if not path.exists():  # it may have been finished in between
            raise InputError(f"{folder} lacks {path.name}, which has the map of image {key}.")
        if key not in shard_keys(folder, name):
            raise InputError(f"{path} has no map of image {key}, or is damaged.")
        stored = read_tensors(path, key=key)[0][key]
    fits = stored.ndim == 2 and 0 < stored.numel() <= MAX_PIXELS
    if not fits or stored.dtype not in (torch.uint8, torch.float16):
        raise InputError(
            f"{path} is damaged: the map of image {key} is {describe(stored)}; expected uint8 or "
            "float16 of shape (h, w)."
        )
    if stored.dtype == torch.float16 and not bool(((stored >= 0) & (stored <= 1)).all()):
        raise InputError(
            f"{path} is damaged: the map of image {key} holds NaN or values outside of [0, 1]."
        )
    return stored
