"""plan_run(): what explaining many images will cost, from measuring a few."""

import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch

from saliencykit.black_boxes.query_counter import CountingBlackBox
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.data.batches import in_blocks
from saliencykit.data.dataset import Dataset
from saliencykit.data.record import Label
from saliencykit.explanation.dataset_run import ExplanationsDirectory
from saliencykit.explanation.dataset_worker import Explained, Worker
from saliencykit.registry.coerce import as_black_box
from saliencykit.storage.blocks import BlockFormat
from saliencykit.storage.map_encoding import Precision

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_MEASURED = 32  # images
_PER_BLOCK = 1024, 10.0  # images, or the seconds until a file is written with what there is


@final
@dataclass(frozen=True)
class RunPlan:
    """The cost of explaining many images; estimates from a few of them.

    Attributes:
        images: The number of images to explain.
        measured: The number that was measured.
        queries: Images that go through the model for one explanation.
        cpu_seconds: Of one core for one image.
        gpu_seconds: Of a GPU for one image; None without one.
        memory: Of a worker in bytes: the largest of this process so far; 0 where it is unknown.
        bytes_per_image: Of rows, mask and table, by format; without overlays.
        failures: Why measured images have no mask.

    Example:
        >>> plan = RunPlan(images=7200, cpu_seconds=0.5, bytes_per_image={"jsonl": 100.0})
        >>> plan.cpu_hours, plan.total_bytes
        (1.0, {'jsonl': 720000.0})
    """

    images: int = 0
    measured: int = 0
    queries: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float | None = None
    memory: int = 0
    bytes_per_image: Mapping[str, float] = field(default_factory=dict)
    failures: tuple[str, ...] = ()

    @property
    def cpu_hours(self) -> float:
        """Hours of one core for all images."""
        return self.images * self.cpu_seconds / 3600

    @property
    def gpu_hours(self) -> float | None:
        """Hours of a GPU for all images."""
        return None if self.gpu_seconds is None else self.images * self.gpu_seconds / 3600

    @property
    def total_bytes(self) -> dict[str, float]:
        """Of the results, by format."""
        return {form: self.images * size for form, size in self.bytes_per_image.items()}


def plan_run(
    model: object,
    data: Any,
    *,
    images: int | None = None,
    masker: Masker | str | None = None,
    budget: float | None = None,
    alternative: Alternative | str | None = None,
    label: Label | None = None,
    sufficient: bool | float = False,
    destroying: bool | float = False,
    verify: bool = True,
    batch_size: int = 16,
    map_dtype: Precision = "uint8",
    gpu_model: object | None = None,
) -> RunPlan:
    """Explain 32 evenly spaced images with one thread, and say what many will cost.

    Nothing is kept. Loading the model, which each worker does once, is not measured.

    Args:
        model: As for `explain_dataset`, on the CPU.
        data: As for `explain_dataset`.
        images: The number of images to plan for, >= 1; None: those of the data.
        masker: As for `explain_dataset`.
        budget: As for `explain_dataset`.
        alternative: As for `explain_dataset`.
        label: As for `explain_dataset`.
        sufficient: As for `explain_dataset`.
        destroying: As for `explain_dataset`.
        verify: As for `explain_dataset`.
        batch_size: As for `explain_dataset`.
        map_dtype: As for `explain_dataset`.
        gpu_model: The same model on a GPU, to measure it there too.

    Raises:
        InputError: An argument cannot be used, or no image can be explained.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> images = torch.rand(4, 3, 16, 16)
        >>> plan = plan_run(PlantedEvidence(), images, images=10**6, masker="rise:samples=50")
        >>> plan.measured, plan.queries
        (4, 54.0)
    """
    options: dict[str, Any] = {"masker": masker, "alternative": alternative, "label": label}
    options |= {"verify": verify, "precision": map_dtype, "batch_size": batch_size}
    options |= {"budget": budget, "sufficient": sufficient, "destroying": destroying}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        explained, queries, seconds, count = _measure(as_black_box(model), data, **options)
        gpu = None if gpu_model is None else _measure(as_black_box(gpu_model), data, **options)[2]
    finally:
        torch.set_num_threads(threads)
    failures = tuple(each.row.failure for each in explained if each.row.failure is not None)
    if len(failures) == len(explained):
        raise InputError(
            f"nothing to plan: no image can be explained. {failures[0] if failures else ''}"
        )
    rows = min(_PER_BLOCK[0], max(batch_size, int(_PER_BLOCK[1] / max(seconds, 1e-9))))
    return RunPlan(
        images=images or count,
        measured=len(explained),
        queries=queries / len(explained),
        cpu_seconds=seconds,
        gpu_seconds=gpu,
        memory=_peak_memory(),
        bytes_per_image=_bytes_per_image(explained, rows),
        failures=failures,
    )


def _measure(
    black_box: BlackBox, data: Any, *, batch_size: int, **options: Any
) -> tuple[list[Explained], int, float, int]:
    """What was explained, the queries it took, the seconds per image, and the size of the data, of
    archives estimated from those that were listed.
    """
    queries: list[int] = []
    counting = CountingBlackBox(black_box, queries.append)
    worker = Worker.of(counting, **options, seed=0)
    worker.tested.append(True)  # the queries that look for noise are of a run, not of an image
    source = Dataset.open(data, black_box, use_labels=options["label"] is None)
    clock = time.process_time if black_box.device.type == "cpu" else time.perf_counter
    with rng.isolated(black_box.device):
        started = clock()
        some = [replace(each, index=i) for i, each in enumerate(source.evenly_spaced(_MEASURED))]
        decoding = clock() - started
        worker.explain(some[:batch_size])  # optimizes the copy of the model
        queries.clear()
        started = clock()
        explained = [
            each for batch in in_blocks(some, batch_size) for each in worker.explain(batch)
        ]
        seconds = clock() - started + decoding
    listed = [size for size in source.files if size is not None]
    count = len(source.files) * sum(listed) // max(1, len(listed)) or source.count
    return explained, sum(queries), seconds / max(1, len(explained)), count or len(explained)


def _peak_memory() -> int:
    """The largest memory of this process so far, in bytes; 0 where it is unknown."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _bytes_per_image(explained: list[Explained], rows: int) -> dict[str, float]:
    """Bytes per image, by format, in files of so many rows.

    A file has bytes of its own and those of its images: half of the images tell them apart.
    """
    half = explained[: len(explained) // 2] or explained
    forms: tuple[BlockFormat, ...] = ("jsonl", "parquet")
    sizes: dict[str, float] = {}
    for form in forms:
        with suppress(InputError):  # pyarrow is missing
            whole, part = (_size(some, form) for some in (explained, half))
            more = len(explained) - len(half)
            each = (whole - part) / more if more else whole
            sizes[form] = each + max(0.0, whole - each * len(explained)) / rows
    return sizes


def _size(explained: list[Explained], form: BlockFormat) -> int:
    """Bytes of a run with one block."""
    with tempfile.TemporaryDirectory() as folder:
        run = ExplanationsDirectory(Path(folder))
        maps = {each.row.index: each.map for each in explained if each.map is not None}
        run.blocks.write([each.row for each in explained], maps, form)
        run.finish()
        return sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
