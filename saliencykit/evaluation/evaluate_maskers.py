"""evaluate(): any maskers by any metrics on any pictures, with baselines and intervals."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import tee
from pathlib import Path
from typing import Any, TypeAlias

import torch

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.metric import Metric, Sample
from saliencykit.data.samples import Batch, few_images, read_samples
from saliencykit.data.sources import count_of, records_of
from saliencykit.evaluation.evaluation_settings import (
    BASELINES,
    Maskers,
    Metrics,
    describe,
    describe_data,
    named_maskers,
    named_metrics,
    with_baselines,
)
from saliencykit.evaluation.gallery import Gallery
from saliencykit.evaluation.run_directory import RunDirectory, file_names
from saliencykit.evaluation.score_rows import Row, append_rows
from saliencykit.evaluation.scorer import Scorer
from saliencykit.evaluation.scores import Scores
from saliencykit.networks.target_layer import target_layer
from saliencykit.registry.coerce import as_alternative, as_black_box
from saliencykit.runs.distributed import Processes
from saliencykit.runs.lock import locked
from saliencykit.storage.atomic_files import remove_unfinished, writable

_FEW = 32  # pictures for metrics that need others than the judged one
OnRow: TypeAlias = Callable[[Row, int, int | None], object]
"""Called after each row with the row, the number of finished rows, and of all rows where that is
known.
"""


def evaluate(
    model: object,
    maskers: Maskers,
    metrics: Metrics,
    data: Any,
    *,
    output_dir: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 16,
    baselines: bool | Iterable[str] = True,
    resume: bool = True,
    labels: Any = None,
    boxes: str | Path | None = None,
    classes: Mapping[str, int] | None = None,
    max_images: int | None = None,
    report_images: int = 12,
    on_row: OnRow | None = None,
) -> Scores:
    """Judge maskers by metrics on pictures; with a directory, a row at a time, so that a killed
    evaluation goes on where it was.

    Rows depend on the picture and the seed, so the order of the pictures, an interruption and the
    number of processes make no difference to the table. A directory takes further maskers and, with
    a higher `max_images`, more pictures of the same data. What goes wrong with one picture (it is
    damaged, a map holds NaN, a masker or a metric raises) is a row with its reason, counted in the
    table, and not the end. Under `accelerate launch` every process takes a share of the pictures.

    Args:
        model: As for `explain`.
        maskers: Texts like `rise:samples=500`, files of trained maskers, or Maskers; in a list, or
            by name in a mapping.
        metrics: Texts like `insertion` or Metrics; in a list, or by name in a mapping; at least
            one.
        data: A folder, a CSV file, or an iterable of Sample or of (image, label); see
            `read_samples`. One Sample is also taken.
        output_dir: The run directory: settings, rows, table, and pictures for the report. None: everything
            stays in memory.
        seed: Of everything that is drawn, >= 0.
        batch_size: Pictures at once, >= 1.
        baselines: True: `center-box`, `whole-image`, `random`, and `grad-cam` where the model shows
            layers; or the names of others; False: none.
        resume: Go on from the rows in `output_dir`; False: begin again there.
        labels: Labels by picture, see `read_samples`.
        boxes: Boxes by picture, see `read_samples`.
        classes: The data set's class names, see `read_samples`.
        max_images: At most this many pictures, the first ones; None: all.
        report_images: Of so many pictures, the first ones, the masks are kept as PNG in `output_dir`.
        on_row: Called with each new row, the number of finished rows, and that of all rows or None;
            for a progress bar. Of several processes each counts its own share.

    Returns:
        The scores. In a launch of several processes each gets all of them.

    Raises:
        InputError: Something cannot be used as it is; or the directory holds an evaluation with
            other settings, or another process is writing there.
        GradientError: A masker needs gradients and the model can only be queried.
        RegistryError: A name is unknown.
        SaliencyKitError: The disk or the device's memory is full. What was finished is there.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> sample = Sample(*black_box.examples(4, generator=torch.Generator().manual_seed(0)))
        >>> scores = evaluate(black_box, "iterative:steps=20", "saliency-score", sample)
        >>> sorted(scores.means())
        ['center-box', 'iterative:steps=20', 'random', 'whole-image']

    References:
        The baselines: Dabkowski & Gal 2017, section 5.1, tables 1 and 2.
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"evaluate(seed={seed!r}): a seed is an integer in [0, 2**63).")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"evaluate(batch_size={batch_size!r}) takes an integer >= 1.")
    black_box = as_black_box(model)
    processes = Processes.of_this_launch(black_box.device)
    if isinstance(data, Sample):
        data = [data]
    options: dict[str, Any] = {
        "labels": labels,
        "boxes": boxes,
        "classes": classes,
        "max_images": max_images,
    }
    about = describe_data(data, labels=labels, boxes=boxes, classes=classes)
    wanted = BASELINES if baselines is True else tuple(baselines or ())
    if baselines is True:
        data, has_layers = _shows_layers(black_box, data, options)
        wanted = BASELINES if has_layers else BASELINES[:-1]
    asked = named_maskers(with_baselines(named_maskers(maskers, black_box), wanted), black_box)
    count = _count(data, black_box, options)
    data, ready = _made_ready(named_metrics(metrics), data, black_box, count, options)
    scorer = Scorer(CachedCopies(black_box), asked, ready, seed)
    settings = describe(black_box, scorer.maskers, scorer.metrics, seed, about, max_images)
    total = None if count is None else count * len(scorer.maskers)
    with ExitStack() as held:
        held.enter_context(
            torch.random.fork_rng(
                devices=[black_box.device] if black_box.device.type == "cuda" else []
            )
        )
        held.enter_context(torch.inference_mode(False))
        if output_dir is None:
            if processes.count > 1:
                raise InputError(
                    "several processes meet in a directory; write evaluate(..., output_dir='run')."
                )
            fresh = _rows(
                scorer, data, options, batch_size, processes, {}, None, {}, 0, total, on_row
            )
            # as they would come back from a directory
            found = [row.rounded() for rows in fresh for row in rows]
            order = {name: place for place, name in enumerate(scorer.maskers)}
            return Scores(
                tuple(sorted(found, key=lambda row: (row.index, order[row.masker]))), settings
            )
        run = RunDirectory(Path(output_dir).expanduser())
        if processes.rank == 0:
            writable(run.path)
            held.enter_context(locked(run.path / "lock"))
            remove_unfinished(run.path)
            if not resume:
                run.clear()
            run.begin(settings)
        processes.wait()
        known = {row.key: row.sample for row in run.rows()}
        gallery = Gallery(run.path, as_alternative("blur").for_black_box(black_box), seed)
        files = file_names(run.settings()["maskers"])  # also those of other calls
        for rows in _rows(
            scorer,
            data,
            options,
            batch_size,
            processes,
            known,
            gallery,
            files,
            report_images,
            total,
            on_row,
        ):
            append_rows(run.rows_of(processes.rank), rows)
        processes.wait()
        if processes.rank == 0:
            run.merge()
            scores = Scores.load(run.path)
            scores.to_csv(run.path / "table.csv")
            scores.to_json(run.path / "table.json")
        processes.wait()
        return Scores.load(run.path)


def _rows(
    scorer: Scorer,
    data: Any,
    options: Mapping[str, Any],
    batch: int,
    processes: Processes,
    known: Mapping[tuple[int, str], str],
    gallery: Gallery | None,
    files: Mapping[str, str],
    pictures: int,
    total: int | None,
    on_row: OnRow | None,
) -> Iterator[list[Row]]:
    """The rows that are missing, a list for each batch and masker.

    Pictures come together by their index alone: those of a batch that was broken off are judged
    together again, and the answers, which depend on the batch in their last digits, are the same.
    """
    names = {index: sample for (index, _), sample in known.items()}

    def is_mine(index: int) -> bool:
        return index // batch % processes.count == processes.rank

    count = None if total is None else total // len(scorer.maskers)
    asked = [
        index
        for index, name in known
        if name in scorer.maskers and (count is None or index < count)
    ]
    done = sum(map(is_mine, asked))
    mine = None if count is None else len(scorer.maskers) * sum(map(is_mine, range(count)))

    def is_wanted(index: int, name: str) -> bool:
        if names.get(index, name) != name:
            raise InputError(
                f"the data are not those of the directory: picture {index} was {names[index]!r}, "
                f"it is {name!r} now."
            )
        block = index // batch
        if not is_mine(index):
            return False
        last = (block + 1) * batch if count is None else min((block + 1) * batch, count)
        return any(
            (place, masker) not in known
            for place in range(block * batch, last)
            for masker in scorer.maskers
        )

    def report(rows: Sequence[Row]) -> None:
        nonlocal done
        for row in rows:
            done += 1
            if on_row is not None:
                on_row(row, done, mine)

    readings = read_samples(data, scorer.black_box, batch_size=batch, wanted=is_wanted, **options)
    for part in _in_blocks(readings, batch):
        missing = [
            name
            for name in scorer.maskers
            if any((index, name) not in known for index in part.indices)
        ]
        if part.sample is None:
            rows = [
                Row(sample=part.names[0], index=part.indices[0], masker=name, reason=part.reason)
                for name in missing
            ]
            yield rows
            report(rows)
            continue
        for judged in scorer.scorer(part.sample, part.indices, missing):
            new = [each for each in judged if each.row.key not in known]
            for each in new:
                if gallery is not None and each.mask is not None and each.row.index < pictures:
                    place = part.indices.index(each.row.index)
                    image = part.sample.images[place : place + 1].to(each.mask.device)
                    gallery.add(image, each.mask, each.row.index, files[each.row.masker])
            yield [each.row for each in new]
            report([each.row for each in new])


def _in_blocks(readings: Iterable[Batch], batch: int) -> Iterator[Batch]:
    """Pictures of one size, together where their indices are of one block of `batch`, however they
    were read.
    """
    waiting: list[tuple[int, str, Sample]] = []

    def together() -> Iterator[Batch]:
        if waiting:
            images = torch.cat([sample.images for _, _, sample in waiting])
            labels = torch.cat([sample.labels for _, _, sample in waiting])
            boxes = tuple(
                torch.zeros(0, 4) if sample.boxes is None else sample.boxes[0]
                for _, _, sample in waiting
            )
            known = boxes if any(sample.boxes is not None for _, _, sample in waiting) else None
            indices, names = (
                tuple(index for index, _, _ in waiting),
                tuple(name for _, name, _ in waiting),
            )
            waiting.clear()
            yield Batch(indices, names, Sample(images, labels, known, names))

    for reading in readings:
        if reading.sample is None:
            yield reading
            continue
        every = reading.sample
        for i, (index, name) in enumerate(zip(reading.indices, reading.names, strict=True)):
            boxes = None if every.boxes is None else every.boxes[i : i + 1]
            sample = Sample(every.images[i : i + 1], every.labels[i : i + 1], boxes)
            if waiting and (
                index // batch != waiting[0][0] // batch
                or sample.images.shape != waiting[0][2].images.shape
            ):
                yield from together()
            waiting.append((index, name, sample))
    yield from together()


def _shows_layers(black_box: BlackBox, data: Any, options: Mapping[str, Any]) -> tuple[Any, bool]:
    """The data, and whether Grad-CAM finds a layer in the model, which is seen when it is shown a
    picture.
    """
    if black_box.module is None or not black_box.differentiable:
        return data, False
    ahead = data
    if isinstance(data, Iterator):  # it can be read once only
        data, ahead = tee(data)
    for reading in read_samples(ahead, black_box, batch_size=1, **options):
        if reading.sample is not None:
            try:
                target_layer(black_box, reading.sample.images[:1].to(black_box.device))
            except SaliencyKitError:
                return data, False
            return data, True
    return data, False


def _made_ready(
    metrics: Mapping[str, Metric],
    data: Any,
    black_box: BlackBox,
    count: int | None,
    options: Mapping[str, Any],
) -> tuple[Any, dict[str, Metric]]:
    """The data, and the metrics: those that need other pictures than the judged one get a few,
    evenly spaced if possible.
    """
    if all(type(metric).for_data is Metric.for_data for metric in metrics.values()):
        return data, dict(metrics)
    ahead = data
    if isinstance(data, Iterator):  # it can be read once only
        data, ahead = tee(data)
    # folders of classes come one after the other, and mosaics want several classes
    step = max(1, (count or 0) // _FEW)
    few = few_images(
        read_samples(
            ahead, black_box, batch_size=1, wanted=lambda index, _: index % step == 0, **options
        ),
        _FEW,
    )
    return data, {
        name: metric if few is None else metric.for_data(few) for name, metric in metrics.items()
    }


def _count(data: Any, black_box: BlackBox, options: Mapping[str, Any]) -> int | None:
    """How many pictures there are, where that is known without opening them."""
    entries: Any = None
    if isinstance(data, str | Path):
        entries = records_of(
            data, black_box, options["labels"], options["boxes"], options["classes"]
        )
    elif isinstance(data, list | tuple):
        entries = list(records_of(data, black_box, classes=options["classes"]))
    return count_of(entries, options["max_images"])
