"""explain_dataset(): a folder of pictures, a table or any iterable, explained row by row into a
directory.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.data.batches import by_size, in_blocks
from saliencykit.data.dataset import Dataset, default_num_workers
from saliencykit.data.label_lookup import class_index
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.data.record import Label
from saliencykit.data.sources import is_folder
from saliencykit.explanation.dataset_run import ExplanationsDirectory, overlay_path, save_overlay
from saliencykit.explanation.dataset_worker import Explained, Worker, overlaid
from saliencykit.explanation.explain_images import default_masker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker
from saliencykit.runs.distributed import Processes
from saliencykit.runs.lock import locked
from saliencykit.runs.run_settings import command, text_of, versions
from saliencykit.storage.atomic_files import writable
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.jsonl import append_lines
from saliencykit.storage.map_shards import PRECISIONS, Precision, ShardWriter
from saliencykit.storage.saved_explanations import FORMAT, VERSION, SavedExplanations

OnExplained: TypeAlias = Callable[[ExplainedRow, int, int | None], object]
"""Called after each row with the row, the number of finished rows, and of all rows where that is
known.
"""


def explain_dataset(
    model: object,
    data: Any,
    *,
    output_dir: str | Path,
    masker: Masker | str | None = None,
    alternative: Alternative | str | None = None,
    label: Label | None = None,
    verify: bool = True,
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
) -> SavedExplanations:
    """Explain every picture of a data set into a directory, a row at a time, so that a killed run
    goes on where it was.

    Rows depend on the picture and the seed, so an interruption and the number of processes make no
    difference. What goes wrong with one picture (it is damaged, its class is unknown, the masker
    raises) is a row with its reason, and not the end. Under `accelerate launch` or torchrun, on one
    machine or on several that share a disk, every process takes a share of the pictures. Threads
    read and decode ahead of the networks; of the pictures only a bounded number is in memory.

    Args:
        model: As for `explain`.
        data: A folder, a table, or images in any other form that `Dataset.open` takes.
        output_dir: The run directory.
        masker: As for `explain`.
        alternative: As for `explain`.
        label: The class asked about for every picture: an index, a name, or `top`, the model's own
            answer. None: the class that the data set gives, or the model's own answer where it
            gives none.
        verify: Ask the model again with the mask kept and with the mask replaced; two passes more.
        seed: Of everything that is drawn, >= 0.
        batch_size: Pictures at once, >= 1.
        map_dtype: Of the stored maps: `uint8` (within 1/510) or `float16` (within 1/4096). They
            have the masker's own resolution.
        overlays: Of so many pictures, the first ones, an overlay is written as PNG, which takes
            longer than a small model's answer.
        resume: Go on from the rows in `output_dir`; False: begin again there.
        labels: Labels by image, see `Dataset.open`.
        classes: The data set's class names, see `Dataset.open`.
        max_images: At most this many pictures, the first ones; None: all.
        num_workers: Threads that read, >= 0. None: one for each core of this process, at most 8.
        on_row: Called with each new row, the number of finished rows, and that of all rows or None;
            for a progress bar. Of several processes each counts its own share.

    Returns:
        The explanations on disk, those of all processes.

    Raises:
        InputError: Something cannot be used as it is; or the directory holds explanations with
            other settings, or another process is writing there.
        GradientError: The masker needs gradients and the model can only be queried.
        RegistryError: A name is unknown.
        SaliencyKitError: The disk or the device's memory is full. What was finished is there.

    Example:
        >>> import tempfile
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(0))
        >>> saved = explain_dataset(black_box, Sample(images, labels), masker="rise:samples=50", output_dir=tempfile.mkdtemp())
        >>> [row.label for row in saved.rows()]
        [0, 1, 2, 3]
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("batch_size", batch_size, 1),
        ("overlays", overlays, 0),
        ("num_workers", num_workers or 0, 0),
    ):
        if not isinstance(value, int) or not least <= value < 2**63:
            raise InputError(f"explain_dataset({name}={value!r}): an integer >= {least}.")
    if map_dtype not in PRECISIONS:
        raise InputError(
            f"explain_dataset(map_dtype={map_dtype!r}): one of {', '.join(PRECISIONS)}."
        )
    if max_images is not None and max_images < 1:
        raise InputError(
            f"explain_dataset(max_images={max_images}): a number of pictures, >= 1, or None for all."
        )
    black_box = as_black_box(model)
    processes = Processes.of_this_launch(black_box.device)
    chosen = default_masker(black_box) if masker is None else as_masker(masker)
    if chosen.needs_gradient and not black_box.differentiable:
        raise GradientError(
            f"{name_of(chosen)} needs gradients and {name_of(black_box)} is query-only; write "
            "masker='rise'."
        )
    chosen = chosen.for_black_box(black_box)
    fill = (
        as_alternative("blur" if alternative is None else alternative).for_black_box(black_box)
        if verify
        else None
    )
    fixed: int | Literal["top"] | None = (
        None
        if label is None
        else "top"
        if label == "top"
        else class_index(label, black_box, classes)
    )
    images = _opened(
        data,
        black_box,
        labels=labels,
        classes=classes,
        max_images=max_images,
        use_labels=label is None,
    )
    run = ExplanationsDirectory(Path(output_dir).expanduser())
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "model": {"text": text_of(black_box), "fingerprint": fingerprint(black_box)},
        "masker": text_of(chosen),
        "alternative": None if fill is None else text_of(fill),
        "label": fixed,
        "precision": map_dtype,
        "seed": seed,
        "data": images.description,
        "max_images": max_images,
        "batch": batch_size,
        "versions": versions(),
        "command": command(),
    }
    worker = Worker(CachedCopies(black_box), chosen, fill, fixed, seed, map_dtype)
    job = _Job(worker, run, processes, batch_size, overlays, default_num_workers(num_workers))
    with ExitStack() as held:
        held.enter_context(rng.isolated(black_box.device))
        if processes.rank == 0:
            writable(run.path)
            held.enter_context(locked(run.path / "lock"))
            if not resume:
                run.clear()
            run.begin(manifest)
            run.recover()
        processes.wait()
        job.work(images, on_row)
        processes.wait()
        if processes.rank == 0:
            run.merge()
            run.write_table()
        processes.wait()
        return SavedExplanations.load(run.path)


@final
@dataclass(frozen=True)
class _Job:
    """What one process does of a run."""

    worker: Worker
    run: ExplanationsDirectory
    processes: Processes
    batch: int
    overlays: int
    threads: int

    def work(
        self,
        images: Dataset,
        on_row: OnExplained | None,
    ) -> None:
        """Explain the pictures of this process that have no row yet, a block at a time.

        The maps of a block are written first and then its rows: what has a row is finished.
        """
        known, batch = self.run.known(), self.batch
        rank, ranks = self.processes.rank, self.processes.count
        count = images.count
        mine = None if count is None else _share(count, batch, rank, ranks)
        done = sum(
            index // batch % ranks == rank for index in known if count is None or index < count
        )
        writer = ShardWriter(self.run.path, rank, self.run.next_shard(rank))

        def is_wanted(index: int, name: str) -> bool:
            if known.get(index, name) != name:
                raise InputError(
                    f"the data are not those of the directory: picture {index} was "
                    f"{known[index]!r}, it is {name!r} now."
                )
            block = index // batch
            last = (block + 1) * batch if count is None else min((block + 1) * batch, count)
            return block % ranks == rank and any(
                place not in known for place in range(block * batch, last)
            )

        def is_kept(index: int, name: str) -> bool:
            return index < self.overlays

        with ThreadPoolExecutor(max(1, self.threads), "overlays") as pool:
            ahead = images.load(select=is_wanted, keep_source=is_kept, num_workers=self.threads)
            for block in in_blocks(ahead, batch):
                block = [picture for picture in block if is_wanted(picture.index, picture.name)]
                if not block:
                    continue
                new = [each for each in self._explained(block) if each.row.index not in known]
                pictures = {picture.index: picture for picture in block}
                list(pool.map(lambda each: self._overlay(pictures[each.row.index], each), new))  # noqa: B023
                maps = {str(each.row.index): each.map for each in new if each.map is not None}
                shard = writer.add(maps) if maps else ""
                rows = [each.row if each.map is None else each.row.in_shard(shard) for each in new]
                append_lines(self.run.rows_of(rank), (row.line() for row in rows))
                for row in rows:
                    done += 1
                    if on_row is not None:
                        on_row(row, done, mine)
        writer.finish()

    def _explained(self, block: list[LoadedImage]) -> list[Explained]:
        """In the order of the pictures."""
        found = [
            Explained(ExplainedRow(name=p.name, index=p.index, reason=p.failure))
            for p in block
            if p.image is None
        ]
        for same in by_size(block):
            found += self.worker.explain(same)
        return sorted(found, key=lambda each: each.row.index)

    def _overlay(self, picture: LoadedImage, explained: Explained) -> None:
        if (
            picture.image is not None
            and explained.mask is not None
            and picture.index < self.overlays
        ):
            save_overlay(
                overlay_path(self.run.path, picture.index),
                overlaid(picture, picture.image, explained.mask),
            )


def _opened(data: Any, black_box: BlackBox, **options: Any) -> Dataset:
    try:
        return Dataset.open(data, black_box, **options)
    except InputError as error:
        if options["use_labels"] and is_folder(data):
            raise InputError(
                f"{error} Or explain the model's own top class: label='top' (--label top)."
            ) from error
        raise


def _share(count: int, batch: int, rank: int, ranks: int) -> int:
    """How many of the first `count` pictures lie in blocks of this process."""
    whole, rest = divmod(count, batch)
    full = len(range(rank, whole, ranks)) * batch
    return full + (rest if whole % ranks == rank else 0)
