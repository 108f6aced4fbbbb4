"""explain_dataset(): a data set, explained row by row into a directory."""

import warnings
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.black_boxes.repeated import averaged
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.data.dataset import Dataset, default_num_workers
from saliencykit.data.record import Label
from saliencykit.data.sources import is_folder, refuse_inside
from saliencykit.explanation.dataset_job import DatasetJob, OnExplained
from saliencykit.explanation.dataset_run import ExplanationsDirectory
from saliencykit.explanation.dataset_worker import Worker
from saliencykit.explanation.shard_merge import ShardNote
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_black_box
from saliencykit.runs.distributed import Processes
from saliencykit.runs.division import Division
from saliencykit.runs.resumed_run import run_in, same_threads
from saliencykit.runs.run_settings import command, text_of, versions
from saliencykit.storage.blocks import BLOCK_FORMATS, BlockFormat
from saliencykit.storage.locations import location
from saliencykit.storage.map_encoding import PRECISIONS, Precision
from saliencykit.storage.saved_explanations import (
    FORMAT,
    VERSION,
    SavedExplanations,
    explanations_manifest,
)


def explain_dataset(
    model: object,
    data: Any,
    *,
    output_dir: str | Path,
    masker: Masker | str | None = None,
    budget: float | None = None,
    alternative: Alternative | str | None = None,
    label: Label | None = None,
    sufficient: bool | float = False,
    destroying: bool | float = False,
    verify: bool = True,
    pixel_range: tuple[float, float] | None = None,
    repeats: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    map_dtype: Precision = "uint8",
    overlays: int = 24,
    resume: bool = True,
    labels: Any = None,
    classes: Mapping[str, int] | None = None,
    max_images: int | None = None,
    num_workers: int | None = None,
    on_row: OnExplained | None = None,
    shard: tuple[int, int] | str | None = None,
    format: BlockFormat | None = None,
) -> SavedExplanations:
    """Explain a data set into a directory, block by block, so that a killed run can be resumed.

    A row depends on its image and the seed, so an interruption and the number of processes make no
    difference. An image that cannot be explained (it is damaged, the model does not have its class,
    the masker raises) is a row with its failure and does not stop the run. Under `accelerate
    launch` or torchrun, on one machine or on several that share a disk, each process takes a part
    of the images. Threads read and decode ahead; only a bounded number of images is in memory.

    Args:
        model: As for `explain`.
        data: A folder, a table, or images in any other form that `Dataset.open` takes.
        output_dir: The run directory.
        masker: As for `explain`.
        budget: As for `explain`.
        alternative: As for `explain`.
        label: The class to explain for all images: an index, a name, or `top` for the model's top
            class. None: the class that the data set gives, or the top class where it gives none.
        sufficient: As for `explain`; the rows have the area and the probability of the region.
        destroying: As for `explain`.
        verify: Query the model with the mask kept, with it replaced, and with all pixels replaced:
            three more passes.
        pixel_range: As for `explain`.
        repeats: As for `explain`.
        seed: Random seed, >= 0.
        batch_size: Images per batch, >= 1.
        map_dtype: Data type of the stored maps: `uint8` (accurate to 1/510) or `float16` (to
            1/4096). Maps have the masker's own resolution.
        overlays: Number of images, evenly spaced (the first ones where the length of the data is
            unknown), for which an overlay is written as PNG. This takes longer than the forward
            pass of a small model.
        resume: Resume from the rows in `output_dir`; False: start again there.
        labels: Labels by image, see `Dataset.open`.
        classes: The data set's class names, see `Dataset.open`.
        max_images: Maximum number of images, the first ones; None for all.
        num_workers: Threads that read images, >= 0. None: one per core of this process, at most 8.
        on_row: Called with each new row, the number of finished rows, and the total or None. Each
            of several processes counts its own part.
        shard: Explain the part (3, 64) or `3/64` of the data, numbered from 0, without knowing of
            the other processes; `auto` takes it from the job array of Slurm or AWS Batch, `auto/64`
            that of Kubernetes. `merge_shards` checks that all parts are there.
        format: Of the files with rows and masks: `jsonl` for JSON lines and safetensors, `parquet`
            (which needs pyarrow) for one file with both. None: that of the run in `output_dir`,
            or `jsonl`.

    Returns:
        The explanations on disk, of all processes.

    Raises:
        InputError: An argument cannot be used; the directory has explanations with other settings;
            or another process is writing there.
        GradientError: The masker needs gradients and the model is query-only.
        RegistryError: A name is unknown.
        SaliencyKitError: The disk or the device's memory is full. Finished rows are kept.

    Example:
        >>> import tempfile, torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(0))
        >>> pairs, folder = list(zip(images, labels)), tempfile.mkdtemp()
        >>> saved = explain_dataset(black_box, pairs, masker="rise:samples=50", output_dir=folder)
        >>> [row.label for row in saved.rows()]
        [0, 1, 2, 3]
    """
    checks.one_of("explain_dataset", PRECISIONS, map_dtype=map_dtype)
    checks.one_of("explain_dataset", (None, *BLOCK_FORMATS), format=format)
    checks.seed(seed, "explain_dataset")
    checks.counts("explain_dataset", batch_size=batch_size)
    checks.counts("explain_dataset", 0, overlays=overlays, num_workers=num_workers)
    black_box = averaged(with_pixel_range(as_black_box(model), pixel_range), repeats)
    worker = Worker.of(
        black_box,
        masker=masker,
        budget=budget,
        alternative=alternative,
        label=label,
        classes=classes,
        sufficient=sufficient,
        destroying=destroying,
        verify=verify,
        seed=seed,
        precision=map_dtype,
    )
    processes = _processes(shard, resume, worker)
    options = {"labels": labels, "classes": classes, "max_images": max_images}
    images = _opened(data, black_box, use_labels=label is None, **options)
    run = ExplanationsDirectory(location(output_dir))
    refuse_inside(run.path, data, "explain_dataset")
    form = format or _format_of(run.path, resume)
    part = _part(processes, batch_size, images)
    manifest = _manifest(worker, images, max_images, batch_size, form)
    job = DatasetJob(worker, run, form, overlays, default_num_workers(num_workers, data))
    return _explained(job, images, part, manifest, resume, on_row)


def _explained(
    job: DatasetJob,
    images: Dataset,
    part: Division,
    manifest: Mapping[str, Any],
    resume: bool,
    on_row: OnExplained | None,
) -> SavedExplanations:
    """Begin or resume the run, do the part of this process, and finish."""
    run, processes = job.run, part.processes
    with ExitStack() as held:
        held.enter_context(rng.isolated(images.black_box.device))
        if processes.leads:
            held.enter_context(run_in(run.path, resume=resume, alone=not processes.is_shard))
            if not resume:
                run.clear()
            run.begin(manifest, images, part)
        if processes.is_shard:
            ShardNote(command(), files=images.files).write(run.path, processes)
        processes.wait()
        if not processes.leads:
            held.enter_context(same_threads(run.path))
        job.work(images, replace(part, names=run.known()), on_row)
        processes.wait()
        if processes.is_shard:
            ShardNote(command(), images.count, images.files).write(run.path, processes)
        elif processes.leads:
            run.finish()
        processes.wait()
        return SavedExplanations.load(run.path)


def _processes(shard: tuple[int, int] | str | None, resume: bool, worker: Worker) -> Processes:
    if shard is None:
        return Processes.of_this_launch(worker.black_box.device)
    if resume:
        return Processes.of_shard(shard)
    raise InputError(
        "a shard cannot start again with resume=False (--no-resume), because the others have "
        "results there; delete the directory."
    )


def _part(processes: Processes, batch_size: int, images: Dataset) -> Division:
    part = Division(processes, batch_size, images.count, images.files)
    if len(images.files) > 1 and not part.by_file:
        warnings.warn(
            f"{len(images.files)} files for {processes.count} processes: they share the rows of "
            "each file, and each reads all files; with as many files, each reads only its own.",
            stacklevel=3,
        )
    return part


def _format_of(run: Path, resume: bool) -> BlockFormat:
    """That of the run in a directory, if there is one."""
    known: dict[str, Any] = {}
    with suppress(InputError):  # there is none, or `begin` says what is wrong
        known = explanations_manifest(run) if resume else known
    form: BlockFormat = known.get("blocks", "jsonl")
    return form


def _manifest(
    worker: Worker, images: Dataset, max_images: int | None, batch_size: int, form: BlockFormat
) -> dict[str, Any]:
    """How the explanations are made: enough to make them again, and to recognize the run."""
    black_box = worker.black_box.black_box
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {"text": text_of(black_box), "fingerprint": fingerprint(black_box)},
        "output": black_box.output,
        "masker": text_of(worker.masker),
        "regions": {kind: each.limit for kind, each in worker.searches.items()} or None,
        "alternative": None if worker.fill is None else text_of(worker.fill),
        "label": worker.label,
        "precision": worker.precision,
        "seed": worker.seed,
        "data": images.description,
        "max_images": max_images,
        "images": images.count,
        "batch": batch_size,
        "blocks": form,
        "versions": versions(),
        "command": command(),
    }


def _opened(data: Any, black_box: BlackBox, **options: Any) -> Dataset:
    try:
        return Dataset.open(data, black_box, **options)
    except InputError as error:
        if not options["use_labels"] or not is_folder(data):
            raise
        # where labels are not the reason, this raises the same
        Dataset.open(data, black_box, **options | {"use_labels": False})
        raise InputError(
            f"{error} Or explain the model's own top class: label='top' (--label top)."
        ) from error
