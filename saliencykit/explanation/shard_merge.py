"""merge_shards(): the shards of a data set's explanations become one run directory."""

import os
import re
import shutil
from pathlib import Path

from saliencykit.core.errors import InputError
from saliencykit.explanation.dataset_run import MUST_AGREE, ExplanationsDirectory
from saliencykit.runs.resumed_run import run_in
from saliencykit.runs.run_settings import continued
from saliencykit.storage.saved_explanations import SavedExplanations, explanations_manifest

_OWN = ("lock", "lock.json", "manifest.json", "threads.txt", "table.csv")  # not of the whole run
_NAMED = 5  # commands that an error lists


def shard_directory(folder: Path, shard: tuple[int, int]) -> Path:
    """Where a shard is written; the run directory takes none once it was merged.

    Raises:
        InputError: It was merged.
    """
    if (folder / "manifest.json").exists():
        raise InputError(
            f"{folder} has the explanations of a whole run; choose another directory for shards."
        )
    return folder / "shards" / f"{shard[0]}-of-{shard[1]}"


def merge_shards(output_dir: str | Path) -> SavedExplanations:
    """Merge what `explain_dataset(shard=)` wrote; afterwards the run is that of one process.

    A merge that was killed is completed by another call.

    Args:
        output_dir: The run directory of all shards.

    Raises:
        InputError: There are no shards; some are missing, unfinished, or of other settings.

    Example:
        >>> import tempfile
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing import PlantedEvidence
        >>> images, folder = torch.rand(4, 3, 16, 16), tempfile.mkdtemp()
        >>> options = {"masker": "center-box", "batch_size": 1, "output_dir": folder}
        >>> for part in range(2):
        ...     _ = explain_dataset(PlantedEvidence(), images, shard=(part, 2), **options)
        >>> len(merge_shards(folder))
        4
    """
    run = ExplanationsDirectory(Path(output_dir).expanduser())
    parts = {}
    for path in run.path.glob("shards/*-of-*"):
        if named := re.fullmatch(r"(\d+)-of-(\d+)", path.name):
            parts[int(named[1]), int(named[2])] = path
    if not parts:
        raise InputError(f"{run.path} has no shards; write explain_dataset(shard=(0, 4)) first.")
    counts = sorted({count for _, count in parts})
    if len(counts) > 1:
        raise InputError(
            f"{run.path / 'shards'} has shards of {' and of '.join(map(str, counts))}; delete "
            "those of one division."
        )
    _refuse_unfinished(run.path, parts, counts[0])
    manifest, *others = map(explanations_manifest, parts.values())
    for other in others:
        continued(run.path / "shards", "explanations", MUST_AGREE, manifest, other)
    with run_in(run.path, resume=True):
        run.describe({name: value for name, value in manifest.items() if name != "division"})
        for (rank, _), path in parts.items():
            _move(path, run, rank)
        run.merge()
        run.write_table()
        shutil.rmtree(run.path / "shards")
    return SavedExplanations.load(run.path)


def _refuse_unfinished(folder: Path, parts: dict[tuple[int, int], Path], count: int) -> None:
    """The table is a shard's last file."""
    missing = [
        rank
        for rank in range(count)
        if (rank, count) not in parts or not (parts[rank, count] / "table.csv").exists()
    ]
    if not missing:
        return
    known = [path for path in parts.values() if (path / "manifest.json").exists()]
    commands = (str(explanations_manifest(path).get("command")) for path in known)
    command = next((each for each in commands if " --shard" in each), "")
    line = re.sub(r" --shard[ =]\S+", "", command.rpartition(" && ")[2])
    lines = [
        f"{line} --shard {rank}/{count}"
        if command
        else f"explain_dataset(..., shard=({rank}, {count}))"
        for rank in missing[:_NAMED]
    ]
    more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    raise InputError(
        f"{len(missing)} of {count} shards in {folder} are missing or not finished; run: "
        f"{'; '.join(lines)}{more}."
    )


def _move(part: Path, run: ExplanationsDirectory, rank: int) -> None:
    """Move the files of a shard; maps first, because rows refer to them."""
    for source in sorted(path for path in part.rglob("*") if path.is_file()):
        place = source.relative_to(part)
        if place.as_posix() in _OWN:
            continue
        target = run.path / place if place.name != "rows.jsonl" else run.rows_of(rank + 1)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
