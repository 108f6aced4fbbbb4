"""Batches of loaded images that go through the model together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.metric import Sample
from saliencykit.core.types import Mask
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.runs.batch_runner import run_batch


@final
@dataclass(frozen=True)
class Batch:
    """Images of one size with labels, or one image that cannot be used.

    Attributes:
        indices: Of the images in the data set, from 0.
        names: One per image.
        sample: The images on the CPU, with labels, boxes (where known) and names; None if the image
            failed.
        failure: Why this one image has no sample, for example because it is damaged.
        file_keys: One per image, see `LoadedImage`.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]
    sample: Sample | None
    failure: str | None = None
    file_keys: tuple[str | None, ...] = ()


def make_batches(
    images: Iterable[LoadedImage], black_box: BlackBox, batch_size: int
) -> Iterator[Batch]:
    """See `Dataset.batches`."""
    for block in in_blocks(images, batch_size):
        for each in block:
            if each.image is None:
                yield Batch((each.index,), (each.name,), None, each.failure, (each.file_key,))
        for same in by_size(block):
            labels = _labels(same, black_box)
            yield from _samples(same, labels)


def few_images(images: Iterable[LoadedImage], black_box: BlackBox, count: int) -> Sample | None:
    """The first `count` images of one size, with labels; None if there are none.

    Args:
        images: Read only as far as needed.
        black_box: Gives its top class to images without a label.
        count: >= 1.
    """
    parts: list[Sample] = []
    for image in images:
        for batch in make_batches([image], black_box, 1):
            same = not parts or image.image is None or image.image.shape == parts[0].images.shape
            if batch.sample is not None and same:
                parts.append(batch.sample)
        if len(parts) == count:
            break
    if not parts:
        return None
    return Sample(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]))


def in_blocks(images: Iterable[LoadedImage], batch_size: int) -> Iterator[list[LoadedImage]]:
    """Images in order, those of one block of `batch_size` indices together.

    Which images come together depends on their indices alone, so that results, whose last digits
    depend on the batch, are the same in every process and after every interruption.
    """
    block: list[LoadedImage] = []
    for image in images:
        if block and image.index // batch_size != block[0].index // batch_size:
            yield block
            block = []
        block.append(image)
    if block:
        yield block


def by_size(images: Iterable[LoadedImage]) -> list[list[LoadedImage]]:
    """The images that could be read, those of each size together."""
    sizes: dict[tuple[int, ...], list[LoadedImage]] = {}
    for each in images:
        if each.image is not None:
            sizes.setdefault(tuple(each.image.shape), []).append(each)
    return list(sizes.values())


def sample_rows(sample: Sample, rows: Iterable[int]) -> Sample:
    """Some rows of a Sample."""
    some = list(rows)
    boxes = None if sample.boxes is None else tuple(sample.boxes[i] for i in some)
    names = None if sample.names is None else tuple(sample.names[i] for i in some)
    inside = None if sample.inside is None else sample.inside[some]
    return Sample(sample.images[some], sample.labels[some], boxes, names, inside)


def _labels(images: Sequence[LoadedImage], black_box: BlackBox) -> list[int | str]:
    """The class of each image, the model's own where it has no label; or why the model failed."""
    unlabeled = [row for row, each in enumerate(images) if each.label is None]

    def top(rows: Sequence[int]) -> list[int | str]:
        some = torch.cat([image for row in rows if (image := images[row].image) is not None])
        with torch.no_grad():
            return list(black_box(some.to(black_box.device)).argmax(1).tolist())

    if not unlabeled:
        return [each.label for each in images if each.label is not None]
    found = run_batch(
        top,
        unlabeled,
        lambda row, error: reason_of(error),
        device=black_box.device,
        who=name_of(black_box),
    )
    own = dict(zip(unlabeled, found, strict=True))
    return [own[row] if each.label is None else each.label for row, each in enumerate(images)]


def _samples(images: Sequence[LoadedImage], labels: Sequence[int | str]) -> Iterator[Batch]:
    good = [
        (each, label) for each, label in zip(images, labels, strict=True) if isinstance(label, int)
    ]
    for each, label in zip(images, labels, strict=True):
        if isinstance(label, str):
            yield Batch((each.index,), (each.name,), None, label, (each.file_key,))
    if good:
        boxes = tuple(
            torch.zeros(0, 4, dtype=torch.float32, device="cpu")
            if each.boxes is None
            else each.boxes
            for each, _ in good
        )
        names = tuple(each.name for each, _ in good)
        sample = Sample(
            torch.cat([each.image for each, _ in good if each.image is not None]),
            torch.tensor([label for _, label in good], device="cpu"),
            boxes if any(each.boxes is not None for each, _ in good) else None,
            names,
            _inside([each for each, _ in good]),
        )
        indices, keys = zip(*((each.index, each.file_key) for each, _ in good), strict=True)
        yield Batch(indices, names, sample, file_keys=keys)


def _inside(images: Sequence[LoadedImage]) -> Mask | None:
    """Where the evidence of each image should be, 0 where that is unknown; None if all are."""
    if all(each.inside is None for each in images):
        return None
    empty = [torch.zeros_like(each.image[:, :1]) for each in images if each.image is not None]
    known = [each.inside for each in images]
    return torch.cat([no if one is None else one for one, no in zip(known, empty, strict=True)])
