"""evaluate(): score any maskers by any metrics on any images, with baselines and confidence
intervals.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core import checks, rng
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.metric import Metric
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import refuse_inside
from saliencykit.evaluation.evaluation_settings import (
    BASELINES,
    Maskers,
    Metrics,
    describe,
    named_maskers,
    named_metrics,
    with_baselines,
)
from saliencykit.evaluation.gallery import Gallery
from saliencykit.evaluation.missing_rows import MissingRows, OnRow
from saliencykit.evaluation.run_directory import RunDirectory, file_names
from saliencykit.evaluation.scorer import Scorer
from saliencykit.evaluation.scores import Scores
from saliencykit.networks.target_layer import find_target_layer
from saliencykit.registry.coerce import as_alternative, as_black_box
from saliencykit.runs.distributed import Processes
from saliencykit.runs.resumed_run import run_in, same_threads
from saliencykit.runs.write_buffer import WriteBuffer
from saliencykit.storage.locations import location

_PREVIEW = 32  # images for metrics that need others than the scored one


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
    inside: str | Path | None = None,
    classes: Mapping[str, int] | None = None,
    max_images: int | None = None,
    report_images: int = 12,
    on_row: OnRow | None = None,
) -> Scores:
    """Score maskers by metrics on a data set, with baselines and 95% confidence intervals.

    Rows depend on the image and the seed alone, so the order of the images, an interruption and the
    number of processes make no difference to the table. With `output_dir` rows are written as they
    come, and a stopped evaluation is resumed by the same call; a run directory can be extended by
    further maskers and, with a higher `max_images`, by more images of the same data. An image that
    fails (it is damaged, a map has NaN, a masker or a metric raises) is a row that says why, and is
    counted in the table. Under `accelerate launch` the processes share the images.

    Args:
        model: As for `explain`.
        maskers: Texts like `rise:samples=500`, files of trained maskers, or Maskers; as a list, or
            as a mapping by name.
        metrics: Texts like `insertion`, or Metrics; as a list, or as a mapping by name; at least
            one.
        data: A folder, a CSV file, or an iterable of Sample or of (image, label); see
            `Dataset.open`. A single Sample is accepted too.
        output_dir: The run directory: settings, rows, table, and images for the report. None:
            everything stays in memory.
        seed: Random seed, >= 0.
        batch_size: Images per batch, >= 1.
        baselines: True: `center-box`, `whole-image`, `random`, and `grad-cam` where the model has
            spatial feature maps; or the names of others; False: none.
        resume: Resume from existing rows in `output_dir`; False: start again there.
        labels: Labels by image, see `Dataset.open`.
        boxes: Bounding boxes by image, see `Dataset.open`.
        inside: A folder of regions by image, white where the evidence should be, see `Dataset`;
            `energy-pointing-game` is then the share of a mask inside, `Scores.by_class` tells
            for each class.
        classes: The data set's class names, see `Dataset.open`.
        max_images: Maximum number of images, the first ones; None: all.
        report_images: Number of images, the first ones, whose masks are saved as PNG in
            `output_dir`.
        on_row: Called with each new row, the number of finished rows, and the total or None; for a
            progress bar. Each of several processes counts its own share.

    Returns:
        The scores. Each of several processes gets all of them.

    Raises:
        InputError: An argument cannot be used; or the directory contains an evaluation with other
            settings, or another process is writing there.
        GradientError: A masker needs gradients and the model is query-only.
        RegistryError: A name is unknown.
        SaliencyKitError: The disk is full, or the device is out of memory. Finished rows are kept.

    Example:
        >>> import torch
        >>> from saliencykit.core import Sample
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(0))
        >>> sample = Sample(images, labels)
        >>> scores = evaluate(black_box, "iterative:steps=20", "saliency-score", sample)
        >>> sorted(scores.means())
        ['center-box', 'iterative:steps=20', 'random', 'whole-image']

    References:
        The baselines: Dabkowski & Gal 2017, section 5.1, tables 1 and 2.
    """
    checks.seed(seed, "evaluate")
    checks.counts("evaluate", batch_size=batch_size)
    if output_dir is not None:
        refuse_inside(location(output_dir), data, "evaluate")
    black_box = as_black_box(model)
    processes = Processes.of_this_launch(black_box.device)
    source = Dataset.open(
        data,
        black_box,
        labels=labels,
        boxes=boxes,
        inside=inside,
        classes=classes,
        max_images=max_images,
    )
    if baselines is True:
        baselines = BASELINES if _has_feature_maps(source) else BASELINES[:-1]
    methods = with_baselines(named_maskers(maskers, black_box), baselines or ())
    scorer = Scorer(
        CachedCopies(black_box),
        named_maskers(methods, black_box),
        _with_preview(named_metrics(metrics), source),
        seed,
    )
    settings = describe(
        black_box, scorer.maskers, scorer.metrics, seed, source.description, max_images
    )
    missing = MissingRows(scorer, source, batch_size, processes, {}, on_row)
    with rng.isolated(black_box.device):
        if output_dir is not None:
            run = RunDirectory(location(output_dir))
            return _evaluate_in_directory(run, settings, missing, resume, report_images)
        if processes.count > 1:
            raise InputError(
                "several processes share a run directory; write evaluate(..., output_dir='run')."
            )
        # rounded, as they would be in a directory
        rows = [each.row.rounded() for scored in missing for each in scored]
    order = list(scorer.maskers)
    rows.sort(key=lambda row: (row.index, order.index(row.masker)))
    return Scores(tuple(rows), settings)


def _evaluate_in_directory(
    run: RunDirectory,
    settings: Mapping[str, Any],
    missing: MissingRows,
    resume: bool,
    report_images: int,
) -> Scores:
    """Write the missing rows of a run, then its tables."""
    processes, scorer = missing.processes, missing.scorer
    with ExitStack() as stack:
        if processes.rank == 0:
            stack.enter_context(run_in(run.path, resume=resume))
            if not resume:
                run.clear()
            run.begin(settings)
            known = {row.index: (row.sample, row.file_key, row.failure) for row in run.rows()}
            run.merge(without=missing.data.stale((i, *facts) for i, facts in known.items()))
        processes.wait()
        stack.enter_context(same_threads(run.path))
        missing = replace(missing, known={row.key: row.sample for row in run.rows()})
        fill = as_alternative("blur").for_black_box(scorer.black_box)
        files = file_names(run.settings()["maskers"])  # also those of earlier calls
        gallery = Gallery(run.path, fill, scorer.seed, report_images, files)
        with WriteBuffer(partial(run.write, rank=processes.rank)) as buffer:
            for scored in missing:
                for each in scored:
                    if each.image is not None and each.mask is not None:
                        gallery.add(each.image, each.mask, each.row.index, each.row.masker)
                buffer.add([each.row for each in scored])
        processes.wait()
        if processes.rank == 0:
            run.merge()
            scores = Scores.load(run.path)
            scores.to_csv(run.path / "table.csv")
            scores.to_json(run.path / "table.json")
        processes.wait()
    return Scores.load(run.path)


def _has_feature_maps(source: Dataset) -> bool:
    """Does Grad-CAM find a layer in the model? It is run on an image to find out."""
    black_box = source.black_box
    if black_box.module is None or not black_box.differentiable:
        return False
    sample = source.preview(1)
    if sample is None:
        return False
    try:
        find_target_layer(black_box, sample.images.to(black_box.device))
    except SaliencyKitError:
        return False
    return True


def _with_preview(metrics: Mapping[str, Metric], source: Dataset) -> dict[str, Metric]:
    """The metrics; those that need other images than the scored one get a few, spread evenly over
    the data set because folders of classes come one after the other.
    """
    if all(type(metric).for_data is Metric.for_data for metric in metrics.values()):
        return dict(metrics)
    few = source.preview(_PREVIEW, max(1, (source.count or 0) // _PREVIEW))
    if few is None:
        return dict(metrics)
    return {name: metric.for_data(few) for name, metric in metrics.items()}
