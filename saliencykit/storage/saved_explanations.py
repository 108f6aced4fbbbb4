"""SavedExplanations: the explanations of a data set on disk, read one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

from msgspec import Struct

from saliencykit.core.errors import InputError
from saliencykit.core.masker import resize_maps
from saliencykit.core.types import Mask
from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal
from saliencykit.storage.jsonl import row_files, typed_lines
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.map_shards import read_map, unpacked
from saliencykit.storage.typed_json import Count, parse_json, typed

FORMAT = "saliencykit-explanations"
VERSION = 1


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
        folder = Path(folder).expanduser()
        return SavedExplanations(folder, explanations_manifest(folder))

    def rows(self) -> Iterator[ExplainedRow]:
        """The rows, one per image; in the order of the images if the run is finished."""
        seen = set[int]()
        for path in row_files(self.folder):
            for _, row in rows_in(path):
                if row.index not in seen:
                    seen.add(row.index)
                    yield row

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
        path, start = self._places[name]
        with path.open("rb") as file:
            file.seek(start)
            return typed(parse_json(file.readline(), path), ExplainedRow, path)

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
            InputError: The row has no map, or the shard is missing or damaged.
        """
        if row.shard is None or row.key is None:
            raise InputError(f"{row.name} has no map: {row.failure}")
        return unpacked(read_map(self.folder, row.shard, row.key))[None, None]

    def mask_of(self, row: ExplainedRow) -> Mask:
        """As `mask`, of a row.

        Args:
            row: One of `rows`.

        Raises:
            InputError: The row has no map, or the shard is missing or damaged.
        """
        small = self.map_of(row)
        return small if row.size is None else resize_maps(small, row.size).clamp(0, 1)

    def of_pixels(self, key: int) -> list[ExplainedRow]:
        """The rows with a map of the same image, one per explained class.

        Args:
            key: Of the image's pixels, see `core.rng.image_keys`.
        """
        return [self.row(name) for name in self._pixels.get(hexadecimal(key), ())]

    @cached_property
    def _places(self) -> dict[str, tuple[Path, int]]:
        places: dict[str, tuple[Path, int]] = {}
        for path in row_files(self.folder):
            for start, row in rows_in(path):
                places.setdefault(row.name, (path, start))
        return places

    @cached_property
    def _pixels(self) -> dict[str, list[str]]:
        pixels: dict[str, list[str]] = {}
        for row in self.rows():
            if row.image_key is not None and row.shard is not None:
                pixels.setdefault(row.image_key, []).append(row.name)
        return pixels


def rows_in(path: Path) -> Iterator[tuple[int, ExplainedRow]]:
    """The rows of a file, each with its byte offset; what is no row is skipped."""
    return typed_lines(path, ExplainedRow)


class _Model(Struct):
    text: str | None = None
    fingerprint: str | None = None


class _Manifest(Struct):
    model: _Model | None = None
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
