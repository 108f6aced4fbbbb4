"""BatchScorer: a batch of images and masks in, a batch of scores out."""

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import torch
from PIL import Image
from torch import Generator

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import reason_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.data.batch_columns import column, undecoded
from saliencykit.data.batch_function import BatchFunction
from saliencykit.data.record import Record
from saliencykit.evaluation.evaluation_settings import Metrics, named_maskers, named_metrics
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.score_summary import metric_of
from saliencykit.evaluation.scorer import Scorer

_GIVEN = "mask"  # the column, and the name of the masker in its place


@final
@dataclass(frozen=True)
class BatchScorer(BatchFunction):
    """Scores batches of images for an engine that distributes them, as `BatchExplainer` explains
    them.

    It can be pickled; the model is loaded when a process scores its first batch. A row depends on
    its image, its mask and the seed, and has the scores of `evaluate`. What fails is a row with its
    failure.

    A batch is a mapping of columns, a pandas DataFrame, or an Arrow table or record batch; the
    result is one of the same type. In: `image`, and optionally `label` and `id`, as for
    `BatchExplainer`; `mask`, unless there is a masker: bytes as `BatchExplainer` writes them, or
    arrays (h, w), uint8 or in [0, 1], of any size; and for metrics of localization `boxes`, rows of
    x0, y0, x1, y1 in pixels of the image. Out: all other columns of the batch, and

    - `label`, `label_name`, `probability`: the class, and its probability for the whole image;
    - a column for each score: `insertion`, or `saliency-score/area` where a metric has several;
    - `failure`: why scores are missing.

    Where there is no value, Arrow has a null; other batches have -1, NaN or "". A metric that needs
    other images of the data set, such as `mosaic`, has no value: give it some, for example
    `Mosaic(others=sample)`.

    Args:
        model: As for `explain`; or a function without arguments that returns one, to load it in
            each process on the device of its choice.
        metrics: As for `evaluate`.
        masker: As for `evaluate`: makes the masks. None: they are the column `mask`, and metrics
            that compare with the mask of another class or image have no value.
        label: The class of all masks: an index, a name, or `top` for the model's top class. None:
            the column `label`, or the top class where it gives none.
        classes: The data set's class names and their indices in the model, where these are not the
            model's own names.
        pixel_range: As for `explain`.
        seed: Random seed, >= 0.
        batch_size: Images that go through the model together, >= 1; batches may be larger.

    Raises:
        InputError: An argument or a batch cannot be used, or the model cannot be pickled.
        GradientError: The masker needs gradients and the model is query-only.
        DeviceMemoryError: The device's memory is too small for `batch_size` images.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> scorer = BatchScorer(PlantedEvidence(), "saliency-score")
        >>> images, masks = [torch.zeros(3, 16, 16), b"no image"], [torch.ones(8, 8)] * 2
        >>> batch = scorer({"image": images, "mask": masks, "label": [2, 2]})
        >>> batch["label"].tolist(), batch["saliency-score/area"].tolist()
        ([2, -1], [1.0, nan])
    """

    metrics: Metrics = ("insertion", "deletion")
    _: KW_ONLY
    masker: Masker | str | None = None

    def columns(
        self, batch: Any, records: Sequence[Record]
    ) -> Mapping[str, tuple[str, Sequence[Any]]]:
        """The scores of the images, in blocks of `batch_size`."""
        masks = None
        if self.masker is None:
            given = column(batch, _GIVEN)
            if given is None:
                raise InputError(
                    "BatchScorer takes masks from a column 'mask', which this batch lacks; write "
                    "BatchScorer(..., masker='rise') to make them."
                )
            read = [_read(value) for value in given]
            masks = {i: mask for i, mask in enumerate(read) if not isinstance(mask, str)}
            records = [
                replace(record, failure=record.failure or mask) if isinstance(mask, str) else record
                for record, mask in zip(records, read, strict=True)
            ]
        rows = self._rows(records, masks)
        scores = [name for metric in self._scorer.metrics for name in self._names(metric, rows)]
        found = {name: ("double", [row.scores.get(name) for row in rows]) for name in scores}
        kinds = {"label": "int64", "label_name": "string", "probability": "double"}
        known = {n: (kind, [getattr(row, n) for row in rows]) for n, kind in kinds.items()}
        return known | found | {"failure": ("string", [row.failure for row in rows])}

    def _rows(self, records: Sequence[Record], masks: Mapping[int, Mask] | None) -> list[Row]:
        (masker,) = self._scorer.maskers
        batches = self.images(records).batches(self.batch_size)
        scored = (each for one in batches for each in self._scorer.score(one, [masker], masks))
        rows = [each.row.rounded() for some in scored for each in some]
        return sorted(rows, key=lambda row: row.index)

    def _names(self, metric: str, rows: Sequence[Row]) -> list[str]:
        """The names of a metric's scores, also for a batch in which nothing could be scored: a
        uniform image tells, once in a process.
        """
        if metric not in self._scores:
            if not any(self._of(metric, row) for row in rows):
                gray = (
                    Image.new("RGB", (64, 64), "gray"),
                    torch.full((3, 64, 64), 0.5, dtype=torch.float32, device="cpu"),
                )
                masks = dict.fromkeys(
                    range(len(gray)), torch.ones(1, 1, 1, 1, dtype=torch.float32, device="cpu")
                )
                rows = self._rows([Record("gray", image, 0) for image in gray], masks)
            self._scores[metric] = next(filter(None, (self._of(metric, row) for row in rows)), [])
        return self._scores[metric] or [metric]

    def _of(self, metric: str, row: Row) -> list[str]:
        return [name for name in row.scores if metric_of(name, self._scorer.metrics) == metric]

    @functools.cached_property
    def _scores(self) -> dict[str, list[str]]:
        """The names of each metric's scores, once they are known."""
        return {}

    @functools.cached_property
    def _scorer(self) -> Scorer:
        given = {_GIVEN: _GivenMasks()} if self.masker is None else self.masker
        maskers = named_maskers(given, self.black_box)
        return Scorer(CachedCopies(self.black_box), maskers, named_metrics(self.metrics), self.seed)


@final
@dataclass(frozen=True)
class _GivenMasks(Masker):
    """In place of a masker where the masks are given."""

    needs_gradient: ClassVar[bool] = False

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """None: there are masks of the given images only."""
        raise InputError(
            "it needs the mask of another class or image, and the masks are given; write "
            "BatchScorer(..., masker='rise')."
        )


def _read(value: Any) -> Mask | str:
    """A mask (1, 1, h, w) in [0, 1], or why there is none."""
    value = undecoded(value)
    if value is None or (isinstance(value, bytes) and not value):
        return "there is no mask."
    try:
        if isinstance(value, bytes):
            with Image.open(io.BytesIO(value), formats=["PNG"]) as file:
                value = np.asarray(file.convert("L"))
        array = torch.as_tensor(np.array(value), device="cpu")
        mask = array.float().reshape(1, 1, *array.shape[-2:])
        mask = mask / 255 if array.dtype == torch.uint8 else mask
    except Exception as error:  # of bytes from anywhere
        return f"its mask cannot be read: {reason_of(error)}"
    good = mask.numel() and mask.min() >= 0 and mask.max() <= 1
    return mask if good else "its mask is not an array (h, w) with values in [0, 1]."
