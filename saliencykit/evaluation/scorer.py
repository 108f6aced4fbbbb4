"""Scorer: one batch, masker by masker, metric by metric; a failure is a row that says why."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator

from saliencykit.black_boxes.cached import CachedCopies, CachedLogits
from saliencykit.core import class_scores
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.data.batches import Batch, sample_rows
from saliencykit.evaluation.score_rows import Row

_OUT_OF_MEMORY = (torch.cuda.OutOfMemoryError, MemoryError)


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

    def score(self, batch: Batch, maskers: Sequence[str]) -> Iterator[list[ScoredMask]]:
        """Score one batch: a list of rows in the order of the images for each of the maskers.

        Args:
            batch: Images of one size, or one that could not be read.
            maskers: Names of the maskers to score.

        Raises:
            SaliencyKitError: The device is out of memory.
        """
        if batch.sample is None:
            index, name = batch.indices[0], batch.names[0]
            for each in maskers:
                row = Row(sample=name, index=index, masker=each, failure=batch.failure)
                yield [ScoredMask(row)]
            return
        device, sample = self.black_box.device, batch.sample
        boxes = None if sample.boxes is None else tuple(b.to(device) for b in sample.boxes)
        some = _Images(
            Sample(sample.images.to(device), sample.labels.to(device), boxes, batch.names),
            batch.indices,
            CachedLogits(self.black_box),
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
        except _OUT_OF_MEMORY as error:
            raise self._out_of_memory(name_of(self.black_box)) from error
        except SaliencyKitError:  # image by image, `_rows` finds out which one it is
            return {}, {}
        return predicted, seconds

    def _rows(self, some: "_Images", name: str, masker: Masker, seconds: float) -> list[ScoredMask]:
        """The rows of a batch; if the masker fails, of each image on its own."""
        images, labels = some.sample.images, some.sample.labels
        try:
            with torch.no_grad():
                logits = some.black_box(images)
            probability = class_scores.probability(logits, labels).tolist()
            started = self._now()
            mask = masker(self.black_box, images, labels, generator=self._generator())
            seconds = (self._now() - started + seconds) / len(some)
        except _OUT_OF_MEMORY as error:
            raise self._out_of_memory(name) from error
        except Exception as error:
            if len(some) == 1:
                return [ScoredMask(some.row(0, name, failure=reason_of(error)))]
            singles = (self._rows(one, name, self.maskers[name], 0.0) for one in some.singles())
            return [row for rows in singles for row in rows]
        scores, failures = self._scores(some, mask, self.maskers[name])
        scored = []
        for i, p in enumerate(probability):
            failure = "; ".join(failures[i]) or None
            row = some.row(
                i, name, probability=p, seconds=seconds, scores=scores[i], failure=failure
            )
            scored.append(ScoredMask(row, images[i : i + 1], mask[i : i + 1]))
        return scored

    def _scores(
        self, some: "_Images", mask: Mask, masker: Masker
    ) -> tuple[list[dict[str, float]], list[list[str]]]:
        """Scores by image, and why some are missing; where a metric fails on a batch, it scores
        each image on its own.
        """
        scores: list[dict[str, float]] = [{} for _ in range(len(some))]
        failures: list[list[str]] = [[] for _ in range(len(some))]

        def explain(images: Images, labels: Labels) -> Mask:
            return masker(self.black_box, images, labels, generator=self._generator())

        def add(name: str, metric: Metric, part: "_Images", masks: Mask, first: int) -> None:
            try:
                values = metric(
                    part.black_box,
                    part.sample,
                    masks,
                    explain=explain,
                    generator=self._generator(),
                )
            except _OUT_OF_MEMORY as error:
                raise self._out_of_memory(name) from error
            except Exception as error:
                if len(part) == 1:
                    failures[first].append(f"{name}: {reason_of(error)}")
                    return
                for i, one in enumerate(part.singles()):
                    add(name, metric, one, masks[i : i + 1], i)
                return
            for key, numbers in values.items():
                for i, number in enumerate(numbers.tolist(), first):
                    scores[i][score_name(name, metric, key)] = number

        for name, metric in self.metrics.items():
            add(name, metric, some, mask, 0)
        return scores, failures

    def _out_of_memory(self, name: str) -> SaliencyKitError:
        return SaliencyKitError(
            f"{name} needs more memory than {self.black_box.device} has; use a smaller batch, "
            "batch_size=1."
        )

    def _generator(self) -> Generator:
        return Generator().manual_seed(self.seed)

    def _now(self) -> float:
        if self.black_box.device.type == "cuda":
            torch.cuda.synchronize(self.black_box.device)
        return time.perf_counter()


def score_name(name: str, metric: Metric, part: str) -> str:
    """`name` for a metric's only value, `name/part` for one of several."""
    return name if part == name_of(metric) else f"{name}/{part}"


@dataclass(frozen=True)
class _Images:
    """Images on the device, with what the black box said of them."""

    sample: Sample
    indices: tuple[int, ...]
    black_box: CachedLogits  # for the metrics

    def __len__(self) -> int:
        return len(self.indices)

    def singles(self) -> Iterator["_Images"]:
        """Each image on its own, as a view of the same memory, which `CachedLogits` recognizes."""
        for i, index in enumerate(self.indices):
            sample = sample_rows(self.sample, [i])
            images = self.sample.images[i : i + 1]
            yield _Images(replace(sample, images=images), (index,), self.black_box)

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
