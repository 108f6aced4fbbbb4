"""ExplanationsFolder: manifest, rows, shards and table of one run, put in order again after a kill."""

import csv
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.runs.run_settings import continued
from saliencykit.storage.atomic_files import remove_unfinished, write_beside, write_text
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.jsonl import row_files, rows_of
from saliencykit.storage.map_shards import finish_shard, shard_keys
from saliencykit.storage.saved_explanations import read_manifest, rows_in

_MUST_AGREE = (
    "format",
    "version",
    "model",
    "masker",
    "alternative",
    "precision",
    "seed",
    "data",
    "label",
)


@final
@dataclass(frozen=True)
class ExplanationsDirectory:
    """One run's directory.

    `manifest.json`, `rows.jsonl` (and `rows-1.jsonl` ... of further processes, until they are
    merged), `table.csv`, `maps-<rank>-<n>.safetensors` (`.open` while it grows), `overlays/`, and
    `lock`.

    Args:
        path: The directory; it is there.
    """

    path: Path

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, or see that the one that is there is of the same run; it may have
        fewer pictures.

        Raises:
            InputError: It is of another run, or there are rows and no manifest.
        """
        if not (self.path / "manifest.json").exists():
            if row_files(self.path):
                raise InputError(
                    f"{self.path} holds rows but no manifest.json; choose another directory."
                )
            self._write(manifest)
            return
        known, asked = read_manifest(self.path), json.loads(json.dumps(manifest))
        together = continued(self.path, "explanations", _MUST_AGREE, known, asked)
        if together["max_images"] != known.get("max_images"):
            self._write(together)

    def _write(self, manifest: Mapping[str, Any]) -> None:
        write_text(
            self.path / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        )

    def clear(self) -> None:
        """Forget what is there, the manifest last; other files are left alone."""
        overlays = self.path.glob("overlays/*/*.png")
        for path in (
            *row_files(self.path),
            *self._shards(),
            *overlays,
            self.path / "table.csv",
            self.path / "manifest.json",
        ):
            path.unlink(missing_ok=True)

    def rows_of(self, rank: int) -> Path:
        """The file that one process appends to."""
        return rows_of(self.path, rank)

    def next_shard(self, rank: int) -> int:
        """The number of a process's next shard; numbers are not used twice."""
        numbers = [
            int(path.stem.split("-")[2])
            for path in self._shards()
            if path.stem.split("-")[1] == str(rank)
        ]
        return max(numbers, default=-1) + 1

    def recover(self) -> None:
        """Finish what a kill left open; one process does, before the others write.

        Maps are written before their rows, so a row without its map is the trace of a machine that
        went down; it is done again. A map without a row is left out of its shard, and its picture
        is done again.

        Raises:
            SaliencyKitError: The disk is full.
        """
        remove_unfinished(self.path)
        referred: dict[str, set[str]] = {}
        for file in row_files(self.path):
            for _, row in rows_in(file):
                if row.shard is not None and row.key is not None:
                    referred.setdefault(row.shard, set()).add(row.key)
        for path in self._shards():
            if path.suffix == ".open":
                finish_shard(path, referred.get(path.stem, set()))
        there = {shard: shard_keys(self.path, shard) for shard in referred}
        if len(row_files(self.path)) > 1 or any(
            keys - there[shard] for shard, keys in referred.items()
        ):
            self.merge(there)

    def known(self) -> dict[int, str]:
        """The names of the pictures that are done, by index."""
        return {row.index: row.name for path in row_files(self.path) for _, row in rows_in(path)}

    def merge(self, there: Mapping[str, set[str]] | None = None) -> None:
        """All rows in one file and in order, one per picture; those of further processes are taken
        in.

        Args:
            there: The keys of each shard, if rows without their maps are to be left out.

        Raises:
            SaliencyKitError: The disk is full; the rows are where they were.
        """
        files = row_files(self.path)
        # of a million rows: what is held is small
        indices, places, starts = (
            array("q"),
            array("q"),
            array("q"),
        )
        for place, file in enumerate(files):
            for start, row in rows_in(file):
                if there is None or row.shard is None or row.key in there.get(row.shard, ()):
                    indices.append(row.index)
                    places.append(place)
                    starts.append(start)
        order = (
            np.unique(np.frombuffer(indices, dtype=np.int64), return_index=True)[1].tolist()
            if indices
            else []
        )
        target = self.rows_of(0)

        def write(beside: Path) -> None:
            load_images = [file.open("rb") for file in files]
            try:
                with beside.open("wb") as out:
                    for at in order:
                        source = load_images[places[at]]
                        source.seek(starts[at])
                        out.write(source.readline().rstrip(b"\n") + b"\n")
            finally:
                for source in load_images:
                    source.close()

        if files:
            write_beside(target, write)
        for file in files:
            if file != target:
                file.unlink(missing_ok=True)

    def write_table(self) -> None:
        """`table.csv`: the merged rows for spreadsheets.

        Raises:
            SaliencyKitError: The disk is full.
        """
        names = [field.name for field in fields(ExplainedRow)]

        def write(beside: Path) -> None:
            with beside.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(names)
                for path in row_files(self.path):
                    for _, row in rows_in(path):
                        size = None if row.size is None else f"{row.size[0]}x{row.size[1]}"
                        table.writerow(
                            [size if name == "size" else getattr(row, name) for name in names]
                        )

        write_beside(self.path / "table.csv", write)

    def _shards(self) -> list[Path]:
        return [
            path for path in self.path.glob("maps-*-*") if path.suffix in (".open", ".safetensors")
        ]


def overlay_path(folder: Path, index: int) -> Path:
    """Where a picture's overlay lies: a thousand in one folder."""
    return folder / "overlays" / f"{index // 1000:04}" / f"{index:07}.png"


def save_overlay(path: Path, picture: Any) -> None:
    """Write a PIL picture beside and move it into place.

    Raises:
        SaliencyKitError: The disk is full.
    """
    write_beside(path, lambda beside: picture.save(beside, format="PNG"))
