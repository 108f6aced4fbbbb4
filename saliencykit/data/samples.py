"""read_samples(): labelled pictures in batches, whatever form they come in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import reason_of
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.metric import Sample
from saliencykit.data.loader import SampleBatch, Wanted, cut, load_images
from saliencykit.data.record import Label, Record
from saliencykit.data.sources import records_of


@final
@dataclass(frozen=True)
class Batch:
    """Some pictures ready to be explained, or one that could not be read.

    Attributes:
        indices: Of the pictures in the data set, counted from 0; those that were not wanted are
            counted too.
        names: One per picture.
        sample: The pictures, on the CPU, with their names; None if there is a reason.
        reason: Why this one picture has no sample: it is damaged, its class is unknown; None if all
            is well.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]
    sample: Sample | None
    reason: str | None = None


def read_samples(
    source: "str | Path | Iterable[Any]",
    black_box: BlackBox,
    *,
    labels: "str | Path | Mapping[str, Label] | None" = None,
    boxes: "str | Path | None" = None,
    classes: Mapping[str, int] | None = None,
    max_images: int | None = None,
    batch_size: int = 16,
    wanted: Wanted | None = None,
) -> Iterator[Batch]:
    """Labelled pictures for evaluation, opened one batch at a time.

    Args:
        source: One of

            - a folder: one folder per class (named by index, name or WordNet id), or pictures
              without labels;
            - the folder `ILSVRC` of ImageNet: its validation pictures, labels and boxes;
            - a CSV file with a column `path`, `file`, `image` or `filename` (relative to the CSV's
              folder), one called `label`, `class` or `wnid`, and one called `boxes` if there are
              any: `x0 y0 x1 y1;x0 y0 x1 y1`, x1 and y1 exclusive;
            - `voc:FOLDER,year=2012,image_set=val` or `coco:FOLDER,annotations=FILE`, or
              torchvision's VOCDetection or CocoDetection; a picture with objects of several classes
              is there once for each of them;
            - any iterable of Sample, or of (image, label), an image being whatever `explain` takes,
              float tensors in [0, 1].
        black_box: Prepares the pictures, and knows the classes.
        labels: Labels by picture, instead of the source's own: a mapping, or a CSV file with such
            columns. A picture is looked up by its name, its file name, and its file name without
            the ending.
        boxes: Boxes by picture: a folder of XML files (Pascal VOC's and ILSVRC's form), or a file
            of `LOC_val_solution.csv`'s form. They give a label to a picture without one.
        classes: The data set's class names and their indices in the model, where these are not the
            model's own names.
        max_images: At most this many pictures, the first ones, >= 1; None: all.
        batch_size: Pictures in one Sample, >= 1. Samples of an iterable are passed on as they are.
        wanted: Asked with index and name before a picture is opened; where it says False the
            picture is left out.

    Returns:
        Readings in the order of the source. A picture that cannot be read, or whose class the model
        does not have, is a Reading with a reason and not a stop.

    Raises:
        InputError: The source itself cannot be used: nothing is there, or it is of no known form.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
        >>> [reading.names for reading in read_samples(zip(images, labels.tolist()), black_box, batch_size=2)]
        [('0', '1'), ('2',)]
    """
    if max_images is not None and max_images < 1:
        raise InputError(
            f"read_samples(max_images={max_images}): a number of pictures, >= 1, or None for all."
        )
    if batch_size < 1:
        raise InputError(f"read_samples(batch_size={batch_size}): pictures in one batch, >= 1.")
    return _readings(
        records_of(source, black_box, labels, boxes, classes),
        black_box,
        classes,
        max_images,
        batch_size,
        wanted,
    )


def visible_boxes(boxes: Tensor, geometry: Geometry) -> Tensor:
    """Boxes in pixels of a picture as boxes in pixels of the model's input: clipped to it, without
    those that it does not show.

    Args:
        boxes: (n, 4): x0, y0, x1, y1 in pixels of the picture, x1 and y1 exclusive.
        geometry: Where the input lies in the picture.

    Example:
        >>> geometry = Geometry(source_size=(10, 20), region=(5.0, 0.0, 15.0, 10.0), size=(20, 20))
        >>> visible_boxes(torch.tensor([[0.0, 0.0, 5.0, 9.0], [4.0, 1.0, 6.0, 2.0]]), geometry).tolist()
        [[0.0, 2.0, 2.0, 4.0]]
    """
    height, width = geometry.source_size
    # of a padded input: not into the padding
    inside = torch.minimum(boxes.clamp_min(0), boxes.new_tensor([width, height] * 2))
    moved = geometry.bbox_from_source(inside)
    return moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]


def few_images(readings: Iterable[Batch], count: int) -> Sample | None:
    """The first pictures of one size that could be read in one Sample; None if there is none.

    Args:
        readings: As `read_samples` gives them; read as far as is needed.
        count: The most pictures, >= 1.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> pairs = [(torch.rand(3, 8, 8), 0), (torch.rand(3, 9, 9), 1), (torch.rand(3, 8, 8), 2)]
        >>> few_images(read_samples(pairs, PlantedEvidence()), 5).labels.tolist()
        [0, 2]
    """
    images, labels = list[Tensor](), list[Tensor]()
    for reading in readings:
        if reading.sample is not None and (
            not images or reading.sample.images.shape[1:] == images[0].shape[1:]
        ):
            images.append(reading.sample.images)
            labels.append(reading.sample.labels)
            if sum(map(len, images)) >= count:
                break
    return Sample(torch.cat(images)[:count], torch.cat(labels)[:count]) if images else None


@dataclass(frozen=True)
class _Ready:
    index: int
    name: str
    image: Tensor
    label: int | None
    boxes: Tensor | None


def _readings(
    entries: Iterable[Record | Sample],
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
    max_images: int | None,
    batch_size: int,
    wanted: Wanted | None,
) -> Iterator[Batch]:
    waiting = list[_Ready]()
    for each in load_images(
        entries, black_box, classes=classes, max_images=max_images, wanted=wanted
    ):
        if isinstance(each, SampleBatch):
            yield from _flushed(waiting, black_box)
            yield from _passed_on(each, wanted)
            continue
        if each.image is None:
            yield from _flushed(waiting, black_box)
            yield Batch((each.index,), (each.name,), None, each.reason)
            continue
        # batches end at fixed indices, so that which pictures come together does not depend on
        # which others are wanted or damaged
        if waiting and (
            each.index // batch_size != waiting[0].index // batch_size
            or each.image.shape != waiting[0].image.shape
        ):
            yield from _flushed(waiting, black_box)
        boxes, place = each.boxes, each.geometry
        if boxes is not None and place is not None:
            boxes = visible_boxes(boxes, place)
        waiting.append(_Ready(each.index, each.name, each.image, each.label, boxes))
    yield from _flushed(waiting, black_box)


def _flushed(waiting: list[_Ready], black_box: BlackBox) -> Iterator[Batch]:
    """One Reading of all that waits, if anything does; nothing waits afterwards."""
    together = list(waiting)
    waiting.clear()
    if not together:
        return
    try:
        yield _together(together, black_box)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        raise
    # the model was asked for labels; which picture it does not take, each on its own will say
    except Exception as error:
        if len(together) == 1:
            yield Batch((together[0].index,), (together[0].name,), None, reason_of(error))
        else:
            for ready in together:
                yield from _flushed([ready], black_box)


def _together(waiting: list[_Ready], black_box: BlackBox) -> Batch:
    """One Reading; labels that are not known are the model's own."""
    images = torch.cat([ready.image for ready in waiting])
    labels = [ready.label for ready in waiting]
    if None in labels:
        with torch.no_grad():
            top = black_box(images.to(black_box.device)).argmax(1).tolist()
        labels = [own if own is not None else best for own, best in zip(labels, top, strict=True)]
    empty = torch.zeros(0, 4)
    boxes = tuple(empty if ready.boxes is None else ready.boxes for ready in waiting)
    indices, names = tuple(ready.index for ready in waiting), tuple(ready.name for ready in waiting)
    known = boxes if any(ready.boxes is not None for ready in waiting) else None
    return Batch(indices, names, Sample(images, torch.tensor(labels), known, names))


def _passed_on(given: SampleBatch, wanted: Wanted | None) -> Iterator[Batch]:
    chosen = [
        i for i, name in enumerate(given.names) if wanted is None or wanted(given.first + i, name)
    ]
    if chosen:
        part = cut(given.sample, chosen)
        kept = tuple(given.names[i] for i in chosen)
        yield Batch(
            tuple(given.first + i for i in chosen),
            kept,
            Sample(part.images, part.labels, part.boxes, kept),
        )
