"""SavedExplanations: the explanations of a data set on disk, read one at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, final

from msgspec import Struct
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.types import Mask
from saliencykit.storage.blocks import BlockFormat, Blocks
from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal
from saliencykit.storage.locations import location
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.map_encoding import checked, unpacked
from saliencykit.storage.typed_json import Count

FORMAT = "saliencykit-explanations"
VERSION = 2
_Rows: TypeAlias = dict[int, ExplainedRow]
_Masks: TypeAlias = Mapping[int, Tensor]


@final
@dataclass(frozen=True)
class SavedExplanations:
    """What `explain_dataset` wrote, finished or not: rows in order, and maps read on demand.

    Args:
        folder: The run directory; `load` checks it.
        manifest: The settings of the run.

    Example:
        >>> import tempfile, torch
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
        >>> pairs, folder = list(zip(images, labels.tolist())), tempfile.mkdtemp()
        >>> saved = explain_dataset(black_box, pairs, masker="center-box", output_dir=folder)
        >>> len(saved), saved.row("1").label, saved.mask("1").shape
        (3, 1, torch.Size([1, 1, 16, 16]))
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)

    @staticmethod
    def load(folder: str | Path) -> "SavedExplanations":
        """Read the manifest; rows and maps are read later.

        Args:
            folder: A run directory of `explain_dataset`, finished or not.

        Raises:
            InputError: There are no explanations, or the manifest is damaged or of another format.
        """
        folder = location(folder)
        return SavedExplanations(folder, explanations_manifest(folder))

    @property
    def blocks(self) -> Blocks:
        """The files of rows and masks."""
        return Blocks(self.folder / "blocks")

    def rows(self) -> Iterator[ExplainedRow]:
        """The rows, one per image, in the order of the images."""
        return self.blocks.rows()

    def __len__(self) -> int:
        """The number of images that have a row."""
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        """Whether the image of this name has a row."""
        return name in self._places

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images that have a row."""
        return tuple(self._places)

    def row(self, name: str) -> ExplainedRow:
        """The row of an image.

        Args:
            name: One of `names`.

        Raises:
            InputError: There is none.
        """
        if name not in self._places:
            raise InputError(
                f"{self.folder} has no row of {name!r}; `names` lists the {len(self)} that it has."
            )
        block, index = self._places[name]
        rows = self._read(block)[0]
        if index not in rows:
            raise InputError(f"{self.folder} was changed: {block} has no row of {name!r} any more.")
        return rows[index]

    def map(self, name: str) -> Mask:
        """The stored mask of an image, (1, 1, h, w) float32 in [0, 1], at the masker's own
        resolution.

        Args:
            name: One of `names`.

        Raises:
            InputError: There is no such image, or it has no map; the message says why.
        """
        return self.map_of(self.row(name))

    def mask(self, name: str) -> Mask:
        """The mask at the size of the model's input, (1, 1, H, W).

        Args:
            name: One of `names`.

        Raises:
            InputError: As of `map`.
        """
        return self.mask_of(self.row(name))

    def map_of(self, row: ExplainedRow) -> Mask:
        """As `map`, of a row.

        Args:
            row: One of `rows`.

        Raises:
            InputError: The row has no map, or its block is missing or damaged.
        """
        if row.block is None:
            raise InputError(f"{row.name} has no map: {row.failure}")
        if (mask := self._read(row.block, masks=True)[1].get(row.index)) is None:
            raise InputError(f"{self.folder / 'blocks' / row.block} has no map of {row.name}.")
        where = f"the map of image {row.index} in {self.folder / 'blocks' / row.block}"
        return unpacked(checked(mask, where))[None, None]

    def mask_of(self, row: ExplainedRow) -> Mask:
        """As `mask`, of a row.

        Args:
            row: One of `rows`.

        Raises:
            InputError: The row has no map, or its block is missing or damaged.
        """
        small = self.map_of(row)
        return small if row.size is None else resize_maps(small, row.size).clamp(0, 1)

    def of_pixels(self, key: int) -> list[ExplainedRow]:
        """The rows with a map of the same image, one per explained class.

        Args:
            key: Of the image's pixels, see `core.rng.image_keys`.
        """
        return [self.row(name) for name in self._pixels.get(hexadecimal(key), ())]

    def _read(self, name: str, masks: bool = False) -> tuple[_Rows, _Masks]:
        """The rows of a block and, once they are needed, its masks; the last one is remembered."""
        last: tuple[str, _Rows, _Masks] | None = self.__dict__.get("_last")
        if last is None or last[0] != name or (masks and not last[2]):
            block = self.blocks.named(name)
            rows = {row.index: row for row in block.rows()}
            last = (name, rows, block.masks() if masks else {})
            self.__dict__["_last"] = last
        return last[1:]

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        places: dict[str, tuple[str, int]] = {}
        for block in self.blocks:
            for row in block.rows():
                places.setdefault(row.name, (block.path.name, row.index))
        return places

    @cached_property
    def _pixels(self) -> dict[str, list[str]]:
        pixels: dict[str, list[str]] = {}
        for row in self.rows():
            if row.image_key is not None and row.failure is None:
                pixels.setdefault(row.image_key, []).append(row.name)
        return pixels


class _Model(Struct):
    text: str | None = None
    fingerprint: str | None = None


class _Manifest(Struct):
    model: _Model | None = None
    blocks: BlockFormat = "jsonl"
    batch: Count | None = None
    images: Count | None = None
    versions: dict[str, str] | None = None
    command: str | None = None
    data: str | None = None
    max_images: Count | None = None


def is_saved(folder: Path) -> bool:
    """Whether there is a manifest of a data set's explanations, of any version."""
    try:
        read_manifest(folder / "manifest.json", "explanation", Struct, format=FORMAT)
    except InputError:
        return False
    return True


def explanations_manifest(folder: Path) -> dict[str, Any]:
    """The settings of the explanations in a directory.

    Raises:
        InputError: There are none, or the manifest is damaged or of another format.
    """
    path = folder / "manifest.json"
    return read_manifest(
        path, "explanation of a data set", _Manifest, format=FORMAT, version=VERSION
    )
