"""Blocks: the rows and masks of a run, in files that are written whole and never changed.

A block has the rows of some images that follow each other, and is named after the first and the
last of them: `blocks/000000000-000001023.parquet`, or a pair of `.jsonl` and `.safetensors`. Each
is written beside its place and moved there, so that a run is the list of its blocks: it is resumed
from them, processes that know nothing of each other write their own, and nothing is merged.
"""

import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import msgspec
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required
from saliencykit.core.visible_text import first_line
from saliencykit.storage.atomic_files import write_bytes
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.jsonl import typed_lines, write_lines
from saliencykit.storage.locations import is_remote, names_in, read_bytes, remove_file
from saliencykit.storage.map_encoding import decoded, encoded

BlockFormat: TypeAlias = Literal["jsonl", "parquet"]
BLOCK_FORMATS = ("jsonl", "parquet")
_NAME = re.compile(r"(\d{9,})-(\d{9,})\.(jsonl|parquet)")


@final
@dataclass(frozen=True, order=True)
class Block:
    """One block, with the first and the last index of its images.

    Args:
        first: The index of the first image.
        last: That of the last one.
        path: The file of the rows, and of the masks if it is a Parquet file.
    """

    first: int
    last: int
    path: Path

    def rows(self) -> list[ExplainedRow]:
        """The rows in their order; what is no row of this block is left out.

        Raises:
            InputError: The file cannot be read.
        """
        if self.path.suffix == ".jsonl":
            rows = list(typed_lines(self.path, ExplainedRow))
        else:
            columns = [name for name in ExplainedRow.columns() if name != "mask"]
            rows = [row for each in self._table(columns) for row in _converted(each)]
        mine = (row for row in rows if self.first <= row.index <= self.last)
        return [replace(row, block=None if row.failure else self.path.name) for row in mine]

    def masks(self) -> Mapping[int, Tensor]:
        """The masks by the index of their image, as they are stored.

        Raises:
            InputError: The file is missing or damaged.
        """
        if self.path.suffix == ".parquet":
            rows = [row for row in self._table(["index", "mask"]) if row["mask"] is not None]
            where = f"the mask of image {{}} in {self.path}"
            return {row["index"]: decoded(row["mask"], where.format(row["index"])) for row in rows}
        path = self._maps
        try:
            maps = load(read_bytes(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        except Exception as error:  # safetensors has an error of its own for damage
            raise InputError(f"{path} is damaged: {first_line(error)}.") from error
        return {int(key): value for key, value in maps.items() if key.isdecimal()}

    def whole_rows(self) -> list[ExplainedRow]:
        """The rows; none if the block is damaged, or its masks are not there."""
        try:
            rows = self.rows()
        except InputError:
            return []
        wanted = {str(row.index) for row in rows if row.failure is None}
        last = rows[-1].index if rows else None
        return rows if last == self.last and self._has_masks(wanted) else []

    def _has_masks(self, wanted: set[str]) -> bool:
        if self.path.suffix == ".parquet":
            return True
        if is_remote(self._maps):  # objects are whole
            return self._maps.name in names_in(self.path.parent)
        try:
            with safe_open(self._maps, framework="pt") as file:
                return wanted <= set(file.keys())
        except Exception:  # missing or damaged
            return False

    def remove(self) -> None:
        """Delete the files, the rows first."""
        remove_file(self.path)
        if self.path.suffix == ".jsonl":
            remove_file(self._maps)

    @property
    def _maps(self) -> Path:
        return self.path.with_suffix(".safetensors")

    def _table(self, columns: list[str]) -> list[dict[str, Any]]:
        try:
            file = parquet().ParquetFile(io.BytesIO(read_bytes(self.path)))
            known = [name for name in columns if name in file.schema_arrow.names]  # of any version
            rows: list[dict[str, Any]] = file.read(columns=known).to_pylist()
            return rows
        except Exception as error:  # pyarrow has many
            raise InputError(f"{self.path} cannot be read: {first_line(error)}.") from error


@final
@dataclass(frozen=True)
class Blocks:
    """All blocks of a run.

    Args:
        folder: The directory of the blocks.
    """

    folder: Path

    def __iter__(self) -> Iterator[Block]:
        """The blocks in the order of their images."""
        names = filter(_NAME.fullmatch, names_in(self.folder))
        return iter(sorted(map(self.named, names)))

    def named(self, name: str) -> Block:
        """A block by the name of its file, which is in this folder and nowhere else.

        Raises:
            InputError: It is no such name.
        """
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise InputError(f"{name[:80]!r} is not the name of a block in {self.folder}.")
        return Block(int(parts[1]), int(parts[2]), self.folder / name)

    def rows(self) -> Iterator[ExplainedRow]:
        """The rows of all blocks in the order of their images, one per image."""
        together: list[Block] = []  # blocks that overlap: of a run that was resumed
        for block in self:
            if together and block.first > max(each.last for each in together):
                yield from _in_order(together)
                together = []
            together.append(block)
        yield from _in_order(together)

    def write(
        self, rows: list[ExplainedRow], maps: Mapping[int, Tensor], form: BlockFormat
    ) -> None:
        """Write a block; when this returns, it survives a kill of the process.

        Args:
            rows: In their order, at least one.
            maps: The masks by the index of their image, as they are to be stored.
            form: `jsonl` (rows as JSON lines, masks as safetensors) or `parquet`.

        Raises:
            SaliencyKitError: The disk is full, or the directory cannot be written.
        """
        path = self.folder / f"{rows[0].index:09}-{rows[-1].index:09}.{form}"
        if form == "parquet":
            write_bytes(path, _table_of(rows, maps))
            return
        # masks before rows: an image with a row is finished
        masks = save({str(key): value.contiguous() for key, value in maps.items()})
        write_bytes(path.with_suffix(".safetensors"), masks)
        write_lines(path, (row.line() for row in rows))

    def drop(self, indices: Collection[int]) -> None:
        """Write the blocks again without the rows of some images.

        Args:
            indices: Of the images.

        Raises:
            SaliencyKitError: The disk is full; the rows are as they were.
        """
        for block in self:
            rows = block.rows()
            kept = [row for row in rows if row.index not in indices]
            if len(kept) == len(rows):
                continue
            if kept:
                there, masks = {row.index for row in kept}, block.masks().items()
                some = {index: mask for index, mask in masks if index in there}
                self.write(kept, some, block.path.suffix[1:])  # type: ignore[arg-type]
            if not kept or (kept[0].index, kept[-1].index) != (block.first, block.last):
                block.remove()

    def remove_damaged(self, is_mine: Callable[[int], bool]) -> None:
        """Delete the blocks that a machine which went down left incomplete.

        Args:
            is_mine: Whether no other process writes the block whose first image has this index.
        """
        names = names_in(self.folder)
        for block in map(self.named, filter(_NAME.fullmatch, names)):
            if is_mine(block.first) and not block.whole_rows():
                block.remove()
        for name in names:
            rows = name.replace(".safetensors", ".jsonl")
            if rows not in names and _NAME.fullmatch(rows) and is_mine(self.named(rows).first):
                remove_file(self.folder / name)


def _in_order(blocks: list[Block]) -> list[ExplainedRow]:
    rows: dict[int, ExplainedRow] = {}
    for block in blocks:
        for row in block.rows():
            rows.setdefault(row.index, row)
    return [rows[index] for index in sorted(rows)]


def _converted(row: dict[str, Any]) -> list[ExplainedRow]:
    try:
        return [msgspec.convert(row, ExplainedRow)]
    except msgspec.ValidationError:
        return []


def _table_of(rows: list[ExplainedRow], maps: Mapping[int, Tensor]) -> bytes:
    """A Parquet file of rows, each with its mask."""
    writer = parquet()
    import pyarrow

    masks = [encoded(maps[row.index]) if row.index in maps else None for row in rows]
    values = [row.values() | {"mask": mask} for row, mask in zip(rows, masks, strict=True)]
    columns = {
        name: pyarrow.array([row[name] for row in values], kind)
        for name, kind in ExplainedRow.columns().items()
    }
    file = io.BytesIO()
    writer.write_table(pyarrow.table(columns), file, compression="zstd")
    return file.getvalue()


def parquet() -> Any:
    """The module of pyarrow.

    Raises:
        InputError: It is missing.
    """
    return required("pyarrow.parquet", "a Parquet file", "data")
