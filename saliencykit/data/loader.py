"""opened(): the pictures of a data set at the model's size, one at a time and in order, opened
ahead by threads if wanted.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.metric import Sample
from saliencykit.core.types import Images
from saliencykit.data.images import as_images
from saliencykit.data.label_lookup import class_index
from saliencykit.data.record import Record

if TYPE_CHECKING:
    from PIL.Image import Image

Wanted: TypeAlias = Callable[[int, str], bool]
# pictures that wait for each thread: more than a batch, so that nobody waits for one large photo
_AHEAD = 24


@final
@dataclass(frozen=True)
class LoadedImage:
    """One picture ready for the model, or why it is not.

    Attributes:
        index: Its place in the data set, counted from 0.
        name: What it is called there, unique.
        image: (1, C, H, W) on the CPU; None if there is a reason.
        label: The class that the data set gives; None if it gives none.
        boxes: In pixels of the picture, x0, y0, x1, y1; None where the data set does not say.
        geometry: Where the image lies in its picture; None for tensors.
        picture: The original, if it was to be kept.
        reason: Why it cannot be used; None if all is well.
    """

    index: int
    name: str
    image: Images | None = None
    label: int | None = None
    boxes: Tensor | None = None
    geometry: Geometry | None = None
    picture: "Image | None" = None
    reason: str | None = None


@final
@dataclass(frozen=True)
class SampleBatch:
    """A Sample among the entries, which needs no opening.

    Attributes:
        first: The place of its first picture in the data set.
        names: Of its pictures, unique.
        sample: Cut off at the limit.
    """

    first: int
    names: tuple[str, ...]
    sample: Sample


def load_images(
    entries: Iterable[Record | Sample],
    black_box: BlackBox,
    *,
    classes: Mapping[str, int] | None = None,
    max_images: int | None = None,
    wanted: Wanted | None = None,
    num_workers: int = 0,
    keep: Wanted | None = None,
) -> Iterator[LoadedImage | SampleBatch]:
    """Open pictures in their order.

    Args:
        entries: As of `records_of`.
        black_box: Prepares the pictures, and knows the classes.
        classes: See `read_samples`.
        max_images: At most this many, the first ones; None: all.
        wanted: Asked with index and name; where it says False the picture is not opened. Not asked
            about Samples.
        num_workers: Threads that open pictures ahead of those that were taken, a bounded number of
            them; 0: each when it is asked for. Decoding and resizing let other threads run.
        keep: Asked in the same way whether the original picture is kept too; None: none is.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> entries = [Record("a", torch.rand(3, 8, 8), 1), Record("b", torch.rand(3, 8, 8), 9)]
        >>> [(each.label, each.reason) for each in load_images(entries, PlantedEvidence(), num_workers=2)]
        [(1, None), (None, 'class 9 is outside 0..3, the classes of the model.')]
    """

    def ready(task: LoadedImage | SampleBatch, entry: Record | None) -> LoadedImage | SampleBatch:
        if entry is None or isinstance(task, SampleBatch):
            return task
        return _open(
            entry,
            task.index,
            task.name,
            black_box,
            classes,
            keep is not None and keep(task.index, task.name),
        )

    tasks = _tasks(entries, max_images, wanted)
    if num_workers < 1:
        yield from (ready(*task) for task in tasks)
        return
    pool, waiting = (
        ThreadPoolExecutor(num_workers, "opening"),
        deque[Future[LoadedImage | SampleBatch]](),
    )
    try:
        for task in tasks:
            waiting.append(pool.submit(ready, *task))
            if len(waiting) > _AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cut(sample: Sample, rows: Iterable[int]) -> Sample:
    """Some rows of a Sample."""
    some = list(rows)
    boxes = None if sample.boxes is None else tuple(sample.boxes[i] for i in some)
    names = None if sample.names is None else tuple(sample.names[i] for i in some)
    return Sample(sample.images[some], sample.labels[some], boxes, names)


def _tasks(
    entries: Iterable[Record | Sample], limit: int | None, wanted: Wanted | None
) -> Iterator[tuple[LoadedImage | SampleBatch, Record | None]]:
    """What is to be opened, by index and name, and what need not be."""
    index, seen = 0, set[str]()
    for entry in entries:
        if limit is not None and index >= limit:
            break
        if isinstance(entry, Sample):
            some = (
                entry if limit is None else cut(entry, range(min(len(entry.images), limit - index)))
            )
            own = some.names or tuple(str(index + i) for i in range(len(some.images)))
            yield (
                SampleBatch(
                    index, tuple(_unique(name, index + i, seen) for i, name in enumerate(own)), some
                ),
                None,
            )
            index += len(some.images)
            continue
        name = _unique(entry.name, index, seen)
        if wanted is None or wanted(index, name):
            yield LoadedImage(index, name), entry
        index += 1


def _open(
    entry: Record,
    index: int,
    name: str,
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
    keep: bool,
) -> LoadedImage:
    """The picture of an entry at the model's size, and its class."""
    try:
        if entry.reason is not None:
            raise InputError(entry.reason)
        label = None if entry.label is None else class_index(entry.label, black_box, classes)
        read = as_images(entry.image, black_box, inputs="raw")
        if len(read) != 1:
            raise InputError(f"{name} is {len(read)} images; an entry is one.")
        picture = read.source_images[0] if keep else None
        return LoadedImage(
            index, name, read.images, label, entry.boxes, read.geometries[0], picture
        )
    except SaliencyKitError as error:
        return LoadedImage(index, name, reason=str(error))


def _unique(name: str, index: int, seen: set[str]) -> str:
    while name in seen:
        name = f"{name}#{index}"
    seen.add(name)
    return name
