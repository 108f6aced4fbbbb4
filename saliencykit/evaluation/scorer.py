"""Judge: one batch of pictures, one masker after the other, every metric; what fails is a row with
its reason.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from saliencykit.evaluation.score_rows import Row


@final
@dataclass(frozen=True)
class ScoredMask:
    """One row, and the mask (1, 1, H, W) that it is about; None if there is none."""

    row: Row
    mask: Mask | None


@final
@dataclass(frozen=True)
class Scorer:
    """Any maskers by any metrics.

    Every masker and every metric starts from the same seed, and what is drawn depends on the
    picture (`core.draw`), so a row is the same whatever else is in the batch, but for the rounding
    of the model's own batches.

    Args:
        black_box: The classifier, for the maskers.
        maskers: By name.
        metrics: By name.
        seed: Of everything that is drawn.
    """

    black_box: CachedCopies
    maskers: Mapping[str, Masker]
    metrics: Mapping[str, Metric]
    seed: int

    def scorer(
        self, sample: Sample, indices: Sequence[int], maskers: Sequence[str]
    ) -> Iterator[list[ScoredMask]]:
        """One list of rows, in the order of the pictures, for each of the maskers.

        Args:
            sample: Pictures of one size.
            indices: Their places in the data set.
            maskers: Names of those that are asked.

        Raises:
            SaliencyKitError: The device's memory does not suffice.
        """
        device = self.black_box.device
        boxes = None if sample.boxes is None else tuple(each.to(device) for each in sample.boxes)
        batch = _Batch(
            Sample(sample.images.to(device), sample.labels.to(device), boxes, sample.names),
            tuple(indices),
            CachedLogits(self.black_box),
        )
        finders, looked = self._look(batch, maskers)
        for name in maskers:
            yield self._rows(
                batch, name, finders.get(name, self.maskers[name]), looked.get(name, 0.0)
            )

    def _look(
        self, batch: "_Batch", names: Sequence[str]
    ) -> tuple[dict[str, Masker], dict[str, float]]:
        """Ask about the whole pictures once; a trained masker that shares the classifier's trunk
        answers in the same pass.
        """
        finders: dict[str, Masker] = {}
        seconds: dict[str, float] = {}
        trained = [name for name, masker in self.maskers.items() if masker.has_one_pass]
        try:
            if not trained:
                batch.black_box.remember(batch.sample.images)
            for name in trained:
                masker = self.maskers[name]
                # the first one is asked even if its rows are there: the answer must not depend on
                # which rows are missing
                if name in names or name == trained[0]:
                    started = self._now()
                    finders[name], logits = masker.predict_masker(
                        batch.black_box, batch.sample.images
                    )
                    seconds[name] = self._now() - started
                    if name == trained[0]:
                        batch.black_box.remember(batch.sample.images, logits)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise self._full(name_of(self.black_box)) from error
        except SaliencyKitError:  # each picture on its own will say which one it is
            return {}, {}
        return finders, seconds

    def _rows(self, batch: "_Batch", name: str, finder: Masker, looked: float) -> list[ScoredMask]:
        """Rows of pictures together; if something fails, of each on its own, so that one costs no
        other.
        """
        sample = batch.sample
        try:
            with torch.no_grad():
                logits = batch.black_box(sample.images)
            probability = class_scores.probability(logits, sample.labels).tolist()
            started = self._now()
            mask = finder(self.black_box, sample.images, sample.labels, generator=self._generator())
            seconds = (self._now() - started + looked) / len(batch)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise self._full(name) from error
        except Exception as error:
            if len(batch) == 1:
                return [ScoredMask(batch.row(0, name, reason=reason_of(error)), None)]
            return [
                one
                for i in range(len(batch))
                for one in self._rows(batch.only(i), name, self.maskers[name], 0.0)
            ]
        scores, reasons = self._scores(batch, mask, self.maskers[name])
        rows = []
        for i, (p, found, why) in enumerate(zip(probability, scores, reasons, strict=True)):
            row = batch.row(
                i, name, probability=p, seconds=seconds, scores=found, reason="; ".join(why) or None
            )
            rows.append(ScoredMask(row, mask[i : i + 1]))
        return rows

    def _scores(
        self, batch: "_Batch", mask: Mask, masker: Masker
    ) -> tuple[list[dict[str, float]], list[list[str]]]:
        """By picture: the scores, and why some are missing."""
        scores: list[dict[str, float]] = [{} for _ in range(len(batch))]
        reasons: list[list[str]] = [[] for _ in range(len(batch))]

        def explain(images: Images, labels: Labels) -> Mask:
            return masker(self.black_box, images, labels, generator=self._generator())

        for name, metric in self.metrics.items():
            parts = [(list(range(len(batch))), batch, mask)]
            while parts:
                places, some, theirs = parts.pop()
                try:
                    found = metric(
                        batch.black_box,
                        some.sample,
                        theirs,
                        explain=explain,
                        generator=self._generator(),
                    )
                except (torch.cuda.OutOfMemoryError, MemoryError) as error:
                    raise self._full(name) from error
                except Exception as error:
                    if len(places) == 1:
                        reasons[places[0]].append(f"{name}: {reason_of(error)}")
                    else:
                        parts += [
                            ([place], some.only(i), theirs[i : i + 1])
                            for i, place in enumerate(places)
                        ]
                    continue
                for part, values in found.items():
                    column = score_name(name, metric, part)
                    for place, value in zip(places, values.tolist(), strict=True):
                        scores[place][column] = value
        return scores, reasons

    def _full(self, name: str) -> SaliencyKitError:
        return SaliencyKitError(
            f"{name} needs more memory than {self.black_box.device} has; evaluate fewer pictures at "
            "once, batch_size=1."
        )

    def _generator(self) -> Generator:
        return Generator().manual_seed(self.seed)

    def _now(self) -> float:
        if self.black_box.device.type == "cuda":
            torch.cuda.synchronize(self.black_box.device)
        return time.perf_counter()


def score_name(metric: str, thing: Metric, part: str) -> str:
    """`metric` for a metric's only value, `metric/part` for one of several."""
    return metric if part == name_of(thing) else f"{metric}/{part}"


@dataclass(frozen=True)
class _Batch:
    sample: Sample
    indices: tuple[int, ...]
    black_box: CachedLogits  # for the metrics

    def __len__(self) -> int:
        return len(self.indices)

    def only(self, i: int) -> "_Batch":
        """One picture of it: a view of the same memory, so that what the box said of it is still
        remembered.
        """
        sample = self.sample
        boxes = None if sample.boxes is None else sample.boxes[i : i + 1]
        names = None if sample.names is None else sample.names[i : i + 1]
        return _Batch(
            Sample(sample.images[i : i + 1], sample.labels[i : i + 1], boxes, names),
            self.indices[i : i + 1],
            self.black_box,
        )

    def row(
        self,
        i: int,
        masker: str,
        *,
        probability: float | None = None,
        seconds: float | None = None,
        scores: Mapping[str, float] | None = None,
        reason: str | None = None,
    ) -> Row:
        black_box, names, label = self.black_box, self.sample.names, int(self.sample.labels[i])
        known = (
            black_box.class_names
            if black_box.class_names is not None and 0 <= label < len(black_box.class_names)
            else None
        )
        return Row(
            sample=str(self.indices[i]) if names is None else names[i],
            index=self.indices[i],
            masker=masker,
            label=label,
            label_name=None if known is None else known[label],
            probability=probability,
            seconds=seconds,
            scores=scores or {},
            reason=reason,
        )
