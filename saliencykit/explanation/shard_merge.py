"""merge_shards(): a run whose shards are finished becomes that of one process."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, final

from saliencykit.core.errors import InputError
from saliencykit.explanation.dataset_run import ExplanationsDirectory
from saliencykit.runs.distributed import Processes
from saliencykit.runs.division import Division
from saliencykit.runs.resumed_run import run_in
from saliencykit.storage.atomic_files import write_text
from saliencykit.storage.locations import location
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.storage.typed_json import Count, read_json, typed

_NAMED = 5  # commands that an error lists


@final
@dataclass(frozen=True)
class ShardNote:
    """What a shard writes beside the blocks when it begins and when it ends.

    Attributes:
        command: The command line.
        images: The number of images of the data set; None while it is unknown.
        files: Of archives, the number of images in each; None where the shard did not read it.
    """

    command: str = ""
    images: Count | None = None
    files: list[Count | None] = field(default_factory=list)

    def write(self, run: Path, processes: Processes) -> None:
        """Write `shards/3-of-64.json`.

        Raises:
            SaliencyKitError: The disk is full.
        """
        path = run / "shards" / f"{processes.rank}-of-{processes.count}.json"
        write_text(path, json.dumps(vars(self)) + "\n")


def merge_shards(output_dir: str | Path) -> SavedExplanations:
    """Check that the shards of a run are finished, and write its table.

    The blocks that the shards wrote are those of the run already, so nothing is moved, and the run
    can be read before. What a dead shard left can be explained by its own command, or by that of
    another division: with three shards of four finished, by `0/3`, `1/3` and `2/3`.

    Args:
        output_dir: The run directory of all shards.

    Returns:
        The explanations.

    Raises:
        InputError: There are no shards, or images are missing; the message has the commands.

    Example:
        >>> import tempfile, torch
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing import PlantedEvidence
        >>> images, folder = torch.rand(4, 3, 16, 16), tempfile.mkdtemp()
        >>> options = {"masker": "center-box", "batch_size": 1, "output_dir": folder}
        >>> for part in range(2):
        ...     _ = explain_dataset(PlantedEvidence(), images, shard=(part, 2), **options)
        >>> len(merge_shards(folder))
        4
    """
    run = ExplanationsDirectory(location(output_dir))
    notes = dict(_notes(run.path / "shards"))
    if not notes:
        raise InputError(f"{run.path} has no shards; write explain_dataset(shard=(0, 4)) first.")
    saved = SavedExplanations.load(run.path)
    _refuse_unfinished(run, saved.manifest, notes)
    with run_in(run.path, resume=True):
        run.finish()
    return saved


def _notes(folder: Path) -> Iterator[tuple[tuple[int, int], ShardNote]]:
    for path in sorted(folder.glob("*-of-*.json")):
        if named := re.fullmatch(r"(\d{1,9})-of-(\d{1,9})\.json", path.name):
            yield (int(named[1]), int(named[2])), typed(read_json(path), ShardNote, path)


def _largest(*counts: int | None) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _refuse_unfinished(
    run: ExplanationsDirectory,
    manifest: dict[str, Any],
    notes: dict[tuple[int, int], ShardNote],
) -> None:
    """Refuse a run in which images are missing: of the shards of the smallest division."""
    known, count = run.known(), min(count for _, count in notes)
    images = _largest(manifest.get("images"), *(note.images for note in notes.values()))
    sizes = zip_longest(*(note.files for note in notes.values()))
    files = [_largest(*size) for size in sizes]
    lacking: list[str] = []
    shards: list[int] = []
    for rank in range(count):
        part = Division(Processes(rank, count), int(manifest.get("batch") or 1), images, files)
        own, there = part.total, sum(map(part.counts, known))
        if own is None or there < own:
            state = f"{there} of {'?' if own is None else own} images"
            lacking.append(f"{rank}/{count} ({state if (rank, count) in notes else 'not started'})")
            shards.append(rank)
    if not shards:
        return
    lines = [note.command for note in notes.values() if " --shard" in note.command]
    line = re.sub(r" --shard[ =]\S+", "", lines[0]) if lines else ""
    commands = [
        f"{line} --shard {rank}/{count}"
        if line
        else f"explain_dataset(..., shard=({rank}, {count}))"
        for rank in shards[:_NAMED]
    ]
    more = f"; and {len(shards) - _NAMED} more" if len(shards) > _NAMED else ""
    raise InputError(
        f"{len(shards)} of {count} shards in {run.path} lack images: "
        f"{', '.join(lacking[:_NAMED])}{more}; run: {'; '.join(commands)}{more}."
    )
