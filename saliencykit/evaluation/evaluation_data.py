"""EvaluationData: the labeled images of an evaluation, read in batches that do not depend on where
a run was stopped.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import groupby, tee
from pathlib import Path
from typing import Any, TypeAlias, final

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Sample
from saliencykit.data.loader import Wanted, cut
from saliencykit.data.samples import Batch, few_images, read_samples
from saliencykit.data.sources import count_of, records_of
from saliencykit.runs.run_settings import describe_data

_Block: TypeAlias = tuple[int, torch.Size | None]


@final
class EvaluationData:
    """Labeled images: counted, previewed and read in batches. Arguments as of `evaluate`."""

    def __init__(
        self,
        data: Any,
        black_box: BlackBox,
        *,
        labels: Any = None,
        boxes: str | Path | None = None,
        classes: Mapping[str, int] | None = None,
        max_images: int | None = None,
    ) -> None:
        self.data = [data] if isinstance(data, Sample) else data
        self.black_box, self.max_images = black_box, max_images
        self.options: dict[str, Any] = {"labels": labels, "boxes": boxes, "classes": classes}
        self.description = describe_data(self.data, **self.options)

    @cached_property
    def count(self) -> int | None:
        """The number of images; None where it is not known without reading them all."""
        records: Any = None
        if isinstance(self.data, str | Path | list | tuple):
            records = records_of(self.data, self.black_box, **self.options)
            if not isinstance(self.data, str | Path):
                records = list(records)
        return count_of(records, self.max_images)

    def batches(self, batch_size: int, wanted: Wanted) -> Iterator[Batch]:
        """The wanted images, in batches of one block of `batch_size` indices and of one size.

        So the same images are together whatever was done before: model outputs depend on the batch
        in their last digits.
        """
        batches = self._read(self.data, batch_size, wanted)
        singles = (one for batch in batches for one in _singles(batch))

        def block(batch: Batch) -> _Block:
            shape = None if batch.sample is None else batch.sample.images.shape
            return batch.indices[0] // batch_size, shape

        for (_, shape), group in groupby(singles, key=block):
            if shape is None:
                yield from group
            else:
                yield _joined(list(group))

    def preview(self, count: int, step: int = 1) -> Sample | None:
        """Some images of one size, every `step`-th; None if none can be read. A generator is not
        consumed.
        """
        ahead = self.data
        if isinstance(ahead, Iterator):
            self.data, ahead = tee(ahead)
        return few_images(self._read(ahead, 1, lambda index, _: index % step == 0), count)

    def _read(self, data: Any, batch_size: int, wanted: Wanted) -> Iterator[Batch]:
        return read_samples(
            data,
            self.black_box,
            batch_size=batch_size,
            wanted=wanted,
            max_images=self.max_images,
            **self.options,
        )


def _singles(batch: Batch) -> Iterable[Batch]:
    """A batch for each of the images."""
    if batch.sample is None:
        return [batch]
    rows = zip(batch.indices, batch.names, strict=True)
    return [
        Batch((index,), (name,), cut(batch.sample, [i])) for i, (index, name) in enumerate(rows)
    ]


def _joined(batches: list[Batch]) -> Batch:
    samples = [batch.sample for batch in batches if batch.sample is not None]
    names = tuple(name for batch in batches for name in batch.names)
    boxes = None
    if any(sample.boxes is not None for sample in samples):
        boxes = tuple(s.boxes[0] if s.boxes is not None else torch.zeros(0, 4) for s in samples)
    images, labels = (
        torch.cat([sample.images for sample in samples]),
        torch.cat([sample.labels for sample in samples]),
    )
    indices = tuple(index for batch in batches for index in batch.indices)
    return Batch(indices, names, Sample(images, labels, boxes, names))
