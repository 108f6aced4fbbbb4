"""explain_on(): a data set explained by an engine, as shards of one run, and merged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, final

from saliencykit.core.checks import reason_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.data.archives import archive_paths
from saliencykit.data.sources import archives_of
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.shard_merge import merge_shards
from saliencykit.runs.engines import ENGINES, Shard
from saliencykit.storage.atomic_files import writable
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.locations import is_remote
from saliencykit.storage.saved_explanations import SavedExplanations

OnShard: TypeAlias = Callable[[int, int, int, int], object]
"""Called after each shard with the numbers of finished shards, of all, of images explained so far,
and of those that failed."""
_NAMED = 3  # failed shards that an error names


def explain_on(
    engine: str,
    load: Callable[[], object],
    data: str,
    *,
    output_dir: str | Path,
    num_workers: int | None = None,
    address: str | None = None,
    gpus: bool = False,
    on_shard: OnShard | None = None,
    **options: Any,
) -> SavedExplanations:
    """Explain a data set with an engine's workers: the same table as on one machine.

    Each worker explains shards of the data as `explain_dataset(shard=)` does; a shard whose worker
    dies is resumed by another. All must see `data` and `output_dir` under the same name.

    Args:
        engine: One of `runs.engines.ENGINES`.
        load: Loads the model, in each worker; can be pickled.
        data: As for `explain_dataset`, as text.
        output_dir: The run directory.
        num_workers: Shards at a time, >= 1; None: as many as the cluster has cores, or GPUs.
        address: Of a running cluster, as the engine takes it.
        gpus: Use the cluster's GPUs.
        on_shard: Called after each shard.
        **options: As for `explain_dataset`.

    Raises:
        InputError: The engine is unknown or missing, its cluster does not answer, a node does not
            see the data; or as of `explain_dataset`.
        SaliencyKitError: Some shards failed; the message names them. Finished results are kept.
    """
    if engine not in ENGINES:
        raise InputError(f"--engine {engine!r}: one of {', '.join(ENGINES)}.")
    folder, local = (Path(each).expanduser().absolute() for each in (output_dir, data))
    writable(folder)
    paths = [folder, *([local] if local.exists() else [])]
    # workers have other working directories
    is_pattern = bool(archive_paths(data)) and not is_remote(data)
    source = str(local) if local in paths or is_pattern else data
    job = ShardJob(load, source, {"output_dir": folder, "num_workers": 1} | options)
    done, explained, failed, errors = 0, 0, 0, dict[Shard, Exception]()
    cluster = {"num_workers": num_workers, "address": address, "gpus": gpus, "paths": paths}
    cluster["files"] = len(archives_of(source))
    for result in ENGINES[engine](job, **cluster):
        if isinstance(result.error, InputError):  # would be the same for all
            raise result.error
        if result.error is not None:
            errors[result.shard] = result.error
            continue
        images, lost = result.value or (0, 0)
        done, explained, failed = done + 1, explained + images, failed + lost
        if on_shard is not None:
            on_shard(done, result.shard[1], explained, failed)
    if errors:
        named = [f"{k}/{n}: {reason_of(error)}" for (k, n), error in list(errors.items())[:_NAMED]]
        raise SaliencyKitError(
            f"{len(errors)} of {done + len(errors)} shards failed ({'; '.join(named)}). Finished "
            "results are kept; run the same command again to resume."
        )
    return merge_shards(folder)


@final
@dataclass(frozen=True)
class ShardJob:
    """What a worker does for a shard; can be pickled.

    Args:
        load: Loads the model.
        data: The data set.
        options: Of `explain_dataset`.
    """

    load: Callable[[], object]
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, shard: Shard) -> tuple[int, int]:
        """The numbers of images explained by this call, and of those that failed."""
        failures: list[bool] = []

        def on_row(row: ExplainedRow, done: int, total: int | None) -> None:
            failures.append(row.failure is not None)

        explain_dataset(self.load(), self.data, shard=shard, on_row=on_row, **self.options)
        return len(failures), sum(failures)
