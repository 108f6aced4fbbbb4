"""Scorer: one batch, masker by masker, metric by metric; a failure is a row that says why."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator

from saliencykit.black_boxes.cached import CachedCopies, CachedLogits
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import DeviceMemoryError, SaliencyKitError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.core.output import reported
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.data.batches import Batch, sample_rows
from saliencykit.evaluation.score_rows import Row
from saliencykit.runs.batch_runner import memory_advice, run_batch


@final
@dataclass(frozen=True)
class ScoredMask:
    """A row, and the image (1, C, H, W) and mask (1, 1, H, W) that it is about; None where there is
    no mask.
    """

    row: Row
    image: Images | None = None
    mask: Mask | None = None


@final
@dataclass(frozen=True)
class Scorer:
    """Scores the masks of any maskers by any metrics.

    Every masker and metric starts from the same seed and draws per image (`core.rng`), so a row is
    the same whatever else is in the batch, up to the rounding of the model's own batches.

    Args:
        black_box: The classifier, for the maskers.
        maskers: By name.
        metrics: By name.
        seed: Random seed.
    """

    black_box: CachedCopies
    maskers: Mapping[str, Masker]
    metrics: Mapping[str, Metric]
    seed: int

    def score(
        self, batch: Batch, maskers: Sequence[str], masks: Mapping[int, Mask] | None = None
    ) -> Iterator[list[ScoredMask]]:
        """Score one batch: a list of rows in the order of the images for each of the maskers.

        Args:
            batch: Images of one size, or one that could not be read.
            maskers: Names of the maskers to score.
            masks: By index the masks (1, 1, h, w) of any size, instead of the maskers' own.

        Raises:
            DeviceMemoryError: The device's memory is too small for the batch.
        """
        if batch.sample is None:
            index, name = batch.indices[0], batch.names[0]
            for each in maskers:
                row = Row(sample=name, index=index, masker=each, failure=batch.failure)
                yield [ScoredMask(row)]
            return
        device, sample = self.black_box.device, batch.sample
        boxes = None if sample.boxes is None else tuple(b.to(device) for b in sample.boxes)
        inside = None if sample.inside is None else sample.inside.to(device)
        some = _Images(
            Sample(sample.images.to(device), sample.labels.to(device), boxes, batch.names, inside),
            batch.indices,
            CachedLogits(self.black_box),
            None if masks is None else _at_size(sample.images, [masks[i] for i in batch.indices]),
        )
        predicted, seconds = self._query_whole_images(some, maskers)
        for name in maskers:
            masker = predicted.get(name, self.maskers[name])
            yield self._rows(some, name, masker, seconds.get(name, 0.0))

    def _query_whole_images(
        self, some: "_Images", names: Sequence[str]
    ) -> tuple[dict[str, Masker], dict[str, float]]:
        """Query the whole images once. A trained masker that shares the classifier's features
        computes its own in the same pass: returns these maskers, and the time that each took.
        """
        predicted: dict[str, Masker] = {}
        seconds: dict[str, float] = {}
        images = some.sample.images
        trained = {name: one for name, one in self.maskers.items() if one.has_one_pass}
        try:
            with memory_advice(self.black_box.device, name_of(self.black_box), len(some)):
                if not trained:
                    some.black_box.remember(images)
                for place, (name, masker) in enumerate(trained.items()):
                    # the first one always: the logits must not depend on which rows are missing
                    if place == 0 or name in names:
                        started = self._now()
                        predicted[name], logits = masker.predict_masker(some.black_box, images)
                        seconds[name] = self._now() - started
                        if place == 0:
                            some.black_box.remember(images, logits)
        except DeviceMemoryError:
            if len(some) > 1:
                raise
            return {}, {}
        except SaliencyKitError:  # image by image, `_rows` finds out which one it is
            return {}, {}
        return predicted, seconds

    def _rows(self, some: "_Images", name: str, masker: Masker, seconds: float) -> list[ScoredMask]:
        """The rows of a batch; if the masker fails, of each image on its own."""

        def score(rows: Sequence[int]) -> list[ScoredMask]:
            if len(rows) == len(some):
                return self._score(some, name, masker, seconds)
            return self._score(some.only(rows[0]), name, self.maskers[name], 0.0)

        def failed(row: int, error: Exception) -> ScoredMask:
            return ScoredMask(some.row(row, name, failure=reason_of(error)))

        device = self.black_box.device
        return run_batch(score, range(len(some)), failed, device=device, who=name)

    def _score(
        self, some: "_Images", name: str, masker: Masker, seconds: float
    ) -> list[ScoredMask]:
        images, labels = some.sample.images, some.sample.labels
        with torch.no_grad():
            logits = some.black_box(images)
        probabilities = reported(logits, labels, some.black_box.output).tolist()
        started = self._now()
        mask = some.masks
        if mask is None:
            mask = masker(self.black_box, images, labels, generator=self._generator())
        seconds = (self._now() - started + seconds) / len(some)
        scores: list[dict[str, float]] = [{} for _ in probabilities]
        failures: list[list[str]] = [[] for _ in probabilities]
        for metric in self.metrics:
            values = self._values(metric, some, mask, self.maskers[name])
            for i, value in enumerate(values):
                if isinstance(value, str):
                    failures[i].append(value)
                else:
                    scores[i] |= value
        scored = []
        for i, p in enumerate(probabilities):
            failure = "; ".join(failures[i]) or None
            row = some.row(
                i, name, probability=p, seconds=seconds, scores=scores[i], failure=failure
            )
            scored.append(ScoredMask(row, images[i : i + 1], mask[i : i + 1]))
        return scored

    def _values(
        self, name: str, some: "_Images", mask: Mask, masker: Masker
    ) -> list[dict[str, float] | str]:
        """By image, the values of a metric, or why it failed on this image alone."""
        metric = self.metrics[name]

        def explain(images: Images, labels: Labels) -> Mask:
            return masker(self.black_box, images, labels, generator=self._generator())

        def score(rows: Sequence[int]) -> list[dict[str, float] | str]:
            whole = len(rows) == len(some)
            part = some if whole else some.only(rows[0])
            values = metric(
                part.black_box,
                part.sample,
                mask if whole else mask[rows[0] : rows[0] + 1],
                explain=explain,
                generator=self._generator(),
            )
            numbers = {score_name(name, metric, key): v.tolist() for key, v in values.items()}
            return [{key: v[i] for key, v in numbers.items()} for i in range(len(rows))]

        def failed(row: int, error: Exception) -> dict[str, float] | str:
            return f"{name}: {reason_of(error)}"

        device = self.black_box.device
        return run_batch(score, range(len(some)), failed, device=device, who=name)

    def _generator(self) -> Generator:
        return Generator().manual_seed(self.seed)

    def _now(self) -> float:
        if self.black_box.device.type == "cuda":
            torch.cuda.synchronize(self.black_box.device)
        return time.perf_counter()


def score_name(name: str, metric: Metric, part: str) -> str:
    """`name` for a metric's only value, `name/part` for one of several."""
    return name if part == name_of(metric) else f"{name}/{part}"


def _at_size(images: Images, masks: Sequence[Mask]) -> Mask:
    """Masks as the images need them."""
    size = images.shape[-2:]
    return torch.cat([resize_maps(each, size).clamp(0, 1) for each in masks]).to(images)


@dataclass(frozen=True)
class _Images:
    """Images on the device, with what the black box said of them."""

    sample: Sample
    indices: tuple[int, ...]
    black_box: CachedLogits  # for the metrics
    masks: Mask | None = None  # where they are given

    def __len__(self) -> int:
        return len(self.indices)

    def only(self, i: int) -> "_Images":
        """One image, as a view of the same memory, which `CachedLogits` recognizes."""
        sample = replace(sample_rows(self.sample, [i]), images=self.sample.images[i : i + 1])
        masks = None if self.masks is None else self.masks[i : i + 1]
        return _Images(sample, self.indices[i : i + 1], self.black_box, masks)

    def row(self, i: int, masker: str, **fields: object) -> Row:
        """The row of one image."""
        label, names = int(self.sample.labels[i]), self.black_box.class_names or ()
        return Row(
            sample=self.sample.names[i] if self.sample.names else str(self.indices[i]),
            index=self.indices[i],
            masker=masker,
            label=label,
            label_name=names[label] if 0 <= label < len(names) else None,
            **fields,  # type: ignore[arg-type]
        )
