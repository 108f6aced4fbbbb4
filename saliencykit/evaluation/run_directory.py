"""RunDirectory: settings, rows, table and images of one evaluation on disk."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from msgspec import Struct

from saliencykit.core.errors import InputError
from saliencykit.evaluation.score_rows import Row, read_rows
from saliencykit.runs.run_settings import continued
from saliencykit.storage.atomic_files import refuse_links, write_text
from saliencykit.storage.jsonl import write_lines
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.typed_json import Count

FORMAT = 1
# maskers are compared by name, because a run may be extended by further ones
_MUST_AGREE = ("format", "model", "metrics", "seed", "data", "maskers")
_FOLDERS = ("images", "masks", "kept", "dropped")
_MAX_NAME = 80  # characters of a file name


class _Metric(Struct):
    text: str
    higher_is_better: bool | None = None
    about: str = ""


class _Settings(Struct):
    maskers: dict[str, str]
    metrics: dict[str, _Metric]
    model: dict[str, str | None] | None = None
    versions: dict[str, str] | None = None
    command: str | None = None
    data: str | None = None
    max_images: Count | None = None


@final
@dataclass(frozen=True)
class RunDirectory:
    """The directory of one evaluation.

    It contains `settings.json`, `rows.jsonl` (until the end in parts, such as the fourth one of the
    first process, `rows-0-3.jsonl`), `table.csv`, `table.json`, `images/`, `masks/`, `kept/`,
    `dropped/`, `lock`.

    Args:
        path: The directory; `begin` creates it.
    """

    path: Path

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, or merge them into the existing ones: a run can be extended by
        further maskers and more images of the same data.

        Raises:
            InputError: The directory cannot be written, or it contains an evaluation with other
                settings.
        """
        for folder in (self.path / name for name in _FOLDERS):
            refuse_links(folder, *folder.glob("*"), *self._row_files())
        if not (self.path / "settings.json").exists():
            if self._row_files():
                raise InputError(
                    f"{self.path} contains rows but no settings.json; choose another directory."
                )
            self._write(settings)
            return
        known, new = self.settings(), json.loads(json.dumps(settings))
        common = known["maskers"].keys() & new["maskers"].keys()
        merged = continued(
            self.path, "an evaluation", _MUST_AGREE, _only(known, common), _only(new, common)
        )
        # new maskers go last, because file names depend on the order
        merged["maskers"] = known["maskers"] | new["maskers"]
        if merged | {"command": ""} != known | {"command": ""}:
            self._write(merged)

    def _write(self, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
        write_text(self.path / "settings.json", text)

    def clear(self) -> None:
        """Delete settings, rows and tables; other files are left alone."""
        names = ("settings.json", "table.csv", "table.json")
        for path in (*(self.path / name for name in names), *self._row_files()):
            path.unlink(missing_ok=True)

    def settings(self) -> dict[str, Any]:
        """The settings of the evaluation.

        Raises:
            InputError: There are none, or the file is damaged or of another format.
        """
        return read_manifest(self.path / "settings.json", "evaluation", _Settings, format=FORMAT)

    def rows(self) -> list[Row]:
        """The finished rows, in the order of images and maskers."""
        order = {name: place for place, name in enumerate(self.settings()["maskers"])}
        return sorted(
            read_rows(self._row_files()),
            key=lambda row: (row.index, order.get(row.masker, len(order)), row.masker),
        )

    def write(self, rows: Sequence[Row], rank: int) -> None:
        """Write rows to a file of their own.

        Args:
            rows: At least one.
            rank: Of this process, which alone writes files of this number.

        Raises:
            SaliencyKitError: The disk is full, or the directory cannot be written.
        """
        number = len(list(self.path.glob(f"rows-{rank}-*.jsonl")))
        write_lines(self.path / f"rows-{rank}-{number}.jsonl", (row.line() for row in rows))

    def merge(self, without: Collection[int] = ()) -> None:
        """Write all rows to one file, in order, without those of some images."""
        path = self.path / "rows.jsonl"
        write_lines(path, (row.line() for row in self.rows() if row.index not in without))
        for part in self._row_files():
            if part != path:
                part.unlink(missing_ok=True)

    def _row_files(self) -> list[Path]:
        return sorted(self.path.glob("rows*.jsonl"))


def _only(settings: Mapping[str, Any], maskers: Iterable[str]) -> dict[str, Any]:
    return {**settings, "maskers": {name: settings["maskers"][name] for name in sorted(maskers)}}


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Maskers' names as file names: letters, digits, `-_.`, else `_`; unique also on file systems
    that ignore case.

    Args:
        names: All names of a run, in its order.

    Example:
        >>> file_names(["rise:samples=9", "rise:samples/9"])
        {'rise:samples=9': 'rise_samples_9', 'rise:samples/9': 'rise_samples_9-2'}
    """
    out: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        short = base = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_MAX_NAME].lstrip(".") or "_"
        count = 1
        while short.lower() in taken:
            count += 1
            short = f"{base}-{count}"
        taken.add(short.lower())
        out[name] = short
    return out
