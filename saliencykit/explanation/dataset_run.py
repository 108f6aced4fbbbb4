"""ExplanationsDirectory: the files of one run of `explain_dataset`, recovered after a kill."""

import csv
import json
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.core.visible_text import csv_cell
from saliencykit.data.dataset import Dataset, KnownImage
from saliencykit.runs.run_settings import continued
from saliencykit.storage.atomic_files import refuse_links, write_beside, write_text
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.jsonl import row_files, rows_of
from saliencykit.storage.map_shards import finish_shard, shard_keys
from saliencykit.storage.saved_explanations import explanations_manifest, rows_in

MUST_AGREE = (
    "format",
    "version",
    "model",
    "masker",
    "alternative",
    "precision",
    "seed",
    "data",
    "label",
    "division",
)
"""Settings that all parts of a run share; `division` is how shards divide the images."""


@final
@dataclass(frozen=True)
class ExplanationsDirectory:
    """One run's directory.

    `manifest.json`, `rows.jsonl` (and `rows-1.jsonl` ... of further processes, until they are
    merged), `table.csv`, `maps-<rank>-<n>.safetensors` (`.open` while it grows), `overlays/`, and
    `lock`.

    Args:
        path: The directory, which exists.
    """

    path: Path

    def begin(self, manifest: Mapping[str, Any], images: Dataset) -> None:
        """Begin or resume the run: the rows that are left belong to it and to unchanged images.

        Raises:
            InputError: The directory is of another run, or has rows but no manifest.
            SaliencyKitError: The disk is full.
        """
        self.describe(manifest)
        (self.path / "table.csv").unlink(missing_ok=True)  # the last file of a finished run
        self.recover()
        stale = images.stale(self.known_images())
        if stale:
            self.merge(without=stale)

    def describe(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, or check that the existing one is of the same run; it may have fewer
        images.

        Raises:
            InputError: It is of another run, or there are rows but no manifest.
        """
        overlays = (self.path / "overlays", *self.path.glob("overlays/*"))
        refuse_links(*overlays, *row_files(self.path), *self._shards())
        if not (self.path / "manifest.json").exists():
            if row_files(self.path):
                raise InputError(
                    f"{self.path} has rows but no manifest.json; choose another directory."
                )
            self._write(manifest)
            return
        known, new = explanations_manifest(self.path), json.loads(json.dumps(manifest))
        together = continued(self.path, "explanations", MUST_AGREE, known, new)
        if together["max_images"] != known.get("max_images"):
            self._write(together)

    def _write(self, manifest: Mapping[str, Any]) -> None:
        write_text(
            self.path / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        )

    def clear(self) -> None:
        """Delete the files of the run, the manifest last; other files are kept."""
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
        """The number of a process's next shard; no number is used twice."""
        numbers = [
            int(path.stem.split("-")[2])
            for path in self._shards()
            if path.stem.split("-")[1] == str(rank)
        ]
        return max(numbers, default=-1) + 1

    def recover(self) -> None:
        """Complete the files that a kill left open; one process does, before the others write.

        Maps are written before their rows. A row without its map comes from a machine that went
        down, a map without its row from a killed process; both images are explained again.

        Raises:
            SaliencyKitError: The disk is full.
        """
        referred: dict[str, set[str]] = {}
        for file in row_files(self.path):
            for _, row in rows_in(file):
                if row.shard is not None and row.key is not None:
                    referred.setdefault(row.shard, set()).add(row.key)
        for path in self._shards():
            if path.suffix == ".open":
                finish_shard(path, referred.get(path.stem, set()))
        there = {shard: shard_keys(self.path, shard) for shard in referred}
        lost = any(keys - there[shard] for shard, keys in referred.items())
        if lost or len(row_files(self.path)) > 1:
            self.merge(there)

    def known(self) -> dict[int, str]:
        """The names of the explained images, by index."""
        return {index: name for index, name, *_ in self.known_images()}

    def known_images(self) -> Iterator[KnownImage]:
        """The explained images, for `Dataset.stale`."""
        for path in row_files(self.path):
            for _, row in rows_in(path):
                yield row.index, row.name, row.file_key, row.failure

    def merge(
        self, there: Mapping[str, set[str]] | None = None, without: Collection[int] = ()
    ) -> None:
        """Merge the rows of all processes into one file, in order, one per image.

        Args:
            there: The keys of each shard, to leave out rows without their maps.
            without: Indices of images to leave out.

        Raises:
            SaliencyKitError: The disk is full; the rows are as they were.
        """
        files = row_files(self.path)
        # offsets only: there may be a million rows
        indices, places, starts = (
            array("q"),
            array("q"),
            array("q"),
        )
        for place, file in enumerate(files):
            for start, row in rows_in(file):
                complete = there is None or row.shard is None or row.key in there.get(row.shard, ())
                if complete and row.index not in without:
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
            handles = [file.open("rb") for file in files]
            try:
                with beside.open("wb") as out:
                    for at in order:
                        source = handles[places[at]]
                        source.seek(starts[at])
                        out.write(source.readline().rstrip(b"\n") + b"\n")
            finally:
                for source in handles:
                    source.close()

        if files:
            write_beside(target, write)
        for file in files:
            if file != target:
                file.unlink(missing_ok=True)

    def write_table(self) -> None:
        """Write `table.csv`: the merged rows for spreadsheets.

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
                        values = asdict(row) | {"size": size}
                        table.writerow([csv_cell(values[name]) for name in names])

        write_beside(self.path / "table.csv", write)

    def _shards(self) -> list[Path]:
        return [
            path for path in self.path.glob("maps-*-*") if path.suffix in (".open", ".safetensors")
        ]


def overlay_path(folder: Path, index: int) -> Path:
    """The path of an image's overlay: a thousand per folder."""
    return folder / "overlays" / f"{index // 1000:04}" / f"{index:07}.png"


def save_overlay(path: Path, overlay: Any) -> None:
    """Write a PIL image beside its place and move it there.

    Raises:
        SaliencyKitError: The disk is full.
    """
    write_beside(path, lambda beside: overlay.save(beside, format="PNG"))
