"""ExplanationsDirectory: the files of one run of `explain_dataset`, recovered after a kill."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from saliencykit.core.errors import InputError
from saliencykit.data.dataset import Dataset
from saliencykit.runs.division import Division
from saliencykit.runs.run_settings import continued
from saliencykit.storage.atomic_files import refuse_links, write_beside, write_text
from saliencykit.storage.blocks import Blocks
from saliencykit.storage.locations import is_remote, names_in, remove_file, remove_tree
from saliencykit.storage.run_export import write_csv
from saliencykit.storage.saved_explanations import explanations_manifest

_MUST_AGREE = (
    "format", "version", "model", "masker", "alternative", "precision", "blocks", "seed", "data",
    "label", "regions",
)  # fmt: skip


@final
@dataclass(frozen=True)
class ExplanationsDirectory:
    """One run's directory: `manifest.json`, `blocks/` with rows and masks, `overlays/`, `lock`,
    `table.csv` once it is finished, and until then `shards/` of processes that know nothing of each
    other.

    Args:
        path: The directory, which exists.
    """

    path: Path

    @property
    def blocks(self) -> Blocks:
        """The files of rows and masks."""
        return Blocks(self.path / "blocks")

    def begin(self, manifest: Mapping[str, Any], images: Dataset, part: Division) -> None:
        """Begin or resume the run: the rows that are left are whole, and of unchanged images.

        An incomplete block comes from a machine that went down; its images are explained again.

        Args:
            manifest: The settings.
            images: The data set.
            part: The images of this process.

        Raises:
            InputError: The directory is of another run, or has rows but no manifest.
            SaliencyKitError: The disk is full.
        """
        if self.describe(manifest, together=part.processes.is_shard):
            return
        remove_file(self.path / "table.csv")  # the last file of a finished run

        def is_mine(index: int) -> bool:  # one process prepares for all of a launch
            return not part.processes.is_shard or part.is_mine(index)

        self.blocks.remove_damaged(is_mine)
        stale = images.stale(
            (row.index, row.name, row.file_key, row.failure)
            for row in self.blocks.rows()
            if is_mine(row.index)
        )
        self.blocks.drop(stale)

    def describe(self, manifest: Mapping[str, Any], *, together: bool = False) -> bool:
        """Write the manifest, or check that the existing one is of the same run; it may have fewer
        images. Is the run a new one?

        Args:
            manifest: The settings.
            together: Other processes may run at the same time: batches must be the same.

        Raises:
            InputError: It is of another run, or there are rows but no manifest.
        """
        if not is_remote(self.path):
            folders = (self.path / "overlays", *self.path.glob("overlays/*"), self.path / "shards")
            refuse_links(*folders, self.blocks.folder, *self.blocks.folder.glob("*"))
        there = names_in(self.path)
        if "manifest.json" not in there:
            if "blocks" in there and any(self.blocks):
                raise InputError(
                    f"{self.path} has rows but no manifest.json; choose another directory."
                )
            self._write(manifest)
            return True
        known, new = explanations_manifest(self.path), json.loads(json.dumps(manifest))
        agree = (*_MUST_AGREE, "batch") if together else _MUST_AGREE
        merged = continued(self.path, "explanations", agree, known, new)
        if merged["max_images"] != known.get("max_images"):
            self._write(merged | {"images": new.get("images")})
        return False

    def _write(self, manifest: Mapping[str, Any]) -> None:
        write_text(
            self.path / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        )

    def clear(self) -> None:
        """Delete the files of the run, the manifest last; other files are kept."""
        for block in self.blocks:
            block.remove()
        remove_tree(self.path / "shards")
        overlays = self.path.glob("overlays/*/*.png")
        for path in (*overlays, self.path / "table.csv", self.path / "manifest.json"):
            remove_file(path)

    def known(self) -> dict[int, str]:
        """The names of the explained images, by index."""
        return {row.index: row.name for block in self.blocks for row in block.whole_rows()}

    def finish(self) -> None:
        """Write `table.csv`, the rows for spreadsheets; the run is finished.

        Raises:
            SaliencyKitError: The disk is full.
        """
        rows = self.blocks.rows()
        write_beside(self.path / "table.csv", lambda beside: write_csv(beside, rows))
        if "shards" in names_in(self.path):
            remove_tree(self.path / "shards")


def overlay_path(folder: Path, index: int) -> Path:
    """The path of an image's overlay: a thousand per folder."""
    return folder / "overlays" / f"{index // 1000:04}" / f"{index:07}.png"


def save_overlay(path: Path, overlay: Any) -> None:
    """Write a PIL image beside its place and move it there.

    Raises:
        SaliencyKitError: The disk is full.
    """
    write_beside(path, lambda beside: overlay.save(beside, format="PNG"))
