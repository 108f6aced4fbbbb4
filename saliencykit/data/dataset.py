"""Dataset: images with labels and bounding boxes, in any form, opened once per command."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias, final

from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.data.archives import Archives
from saliencykit.data.batches import Batch, few_images, make_batches
from saliencykit.data.description import describe_source
from saliencykit.data.file_key import is_replaced
from saliencykit.data.image_loader import ImageLoader
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.data.record import ArchiveImage, Record, unique_names
from saliencykit.data.sources import Labels, records_of
from saliencykit.runs.batch_runner import OUT_OF_MEMORY
from saliencykit.runs.division import FILE
from saliencykit.storage.locations import is_remote

Select: TypeAlias = Callable[[int, str], bool]
"""From an image's index and name to whether it is selected."""
KnownImage: TypeAlias = tuple[int, str, str | None, str | None]
"""Index, name, key of the file and failure of an image that has results."""
_NAMED = 5  # replaced images that the warning names
_AHEAD = 24  # images ready per thread: more than a batch, so that one large photo delays nobody
_REMOTE_THREADS = 32
_MOST_THREADS = 8  # more than these and the disk is the bottleneck


@final
class Dataset:
    """Images with labels and bounding boxes, in any form that people keep them in.

    `Dataset.open` lists the data without opening images; `load` opens each image once, in order,
    with threads that read ahead. All commands take the same forms of data. An image that cannot be
    read, or whose class the model does not have, comes as a `LoadedImage` with a `failure`.

    Args:
        records: One record per image. Users call `Dataset.open` instead.
        black_box: Prepares the images, and has the classes.
        classes: Class index by name, where the names are not the model's.
        use_labels: Whether to use the labels of the records.
        description: What the data are, in words.
        inside: A folder of images named like the data's, white where the evidence should be.

    Attributes:
        black_box: Prepares the images, and has the classes.
        count: The number of images; None for an iterable or archives whose length is unknown, until
            all of it was read.
        description: What the data are, in words.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> pairs = [(torch.rand(3, 8, 8), 1), (torch.rand(3, 8, 8), 9)]
        >>> data = Dataset.open(pairs, PlantedEvidence())
        >>> data.count, [(each.label, each.failure) for each in data.load()]
        (2, [(1, None), (None, 'class 9 is outside 0..3, the classes of the model.')])
    """

    def __init__(
        self,
        records: Iterable[Record] | Archives,
        black_box: BlackBox,
        *,
        classes: Mapping[str, int] | None = None,
        use_labels: bool = True,
        description: str = "",
        inside: Path | None = None,
    ) -> None:
        self.black_box = black_box
        self.description = description
        self.classes = classes
        self.use_labels = use_labels
        self._loader = ImageLoader(black_box, classes, use_labels, inside)
        self._records = records
        self._pending: Iterator[Record] | None = None  # of a pass that `first` has begun
        self._taken: list[Record] = []  # by `first`, not yet by `load`
        self._kept: dict[int, LoadedImage] = {}  # opened by `first`, not yet loaded
        self.count = len(records) if isinstance(records, list) else None

    @property
    def files(self) -> list[int | None]:
        """Of archives, the number of images in each, None until it is listed; else empty."""
        return self._records.sizes if isinstance(self._records, Archives) else []

    @staticmethod
    def open(
        source: Any,
        black_box: BlackBox,
        *,
        labels: Labels | None = None,
        boxes: str | Path | None = None,
        classes: Mapping[str, int] | None = None,
        max_images: int | None = None,
        use_labels: bool = True,
        inside: str | Path | None = None,
        pixel_range: tuple[float, float] | None = None,
    ) -> "Dataset":
        """List a data set; no image is opened.

        Args:
            source: One of

                - a folder, with one subfolder per class (named by index, name or WordNet id), or
                  with images without labels;
                - the folder `ILSVRC` of ImageNet: its validation images, labels and boxes;
                - a CSV or JSON lines file with a column `path`, `file`, `image` or `filename`
                  (relative to the file's folder), and, if known, `label`, `class` or `wnid`, and
                  `boxes`; see `read_table`;
                - `voc:FOLDER,year=2012,image_set=val` or `coco:FOLDER,annotations=FILE`, or
                  torchvision's VOCDetection or CocoDetection; an image with objects of several
                  classes comes once for each of them;
                - webdataset's tars (with `.cls` or `.json` for labels) or Parquet files with a
                  column `image` of bytes, of structs of bytes and path, or of paths (and, if known,
                  `label`, `boxes` and `id`): a file, a folder of them, a pattern such as
                  `shards/*.tar`, or a range, `shards/{000..063}.tar`;
                - a tensor (N, C, H, W), a list, a torch data set, a DataLoader or any iterable of
                  images, of pairs (image, label), of batches of both, or of `Sample`; an image is
                  whatever `explain` takes, with float tensors in [0, 1].
            black_box: Prepares the images, and has the classes.
            labels: Labels instead of the source's own: a mapping, or a CSV or JSON lines file, by
                an image's name, file name, or file name without suffix; or one label per image in
                their order.
            boxes: Boxes by image: a folder of XML files (in Pascal VOC's or ILSVRC's format), or a
                file like `LOC_val_solution.csv`. They give a label to an image without one.
            classes: The data set's class names and their indices in the model, where these are not
                the model's own names.
            max_images: At most this many images, the first ones, >= 1; None for all.
            use_labels: False: images come without labels, and subfolders need not be classes.
            inside: A folder of images named like the source's (`cats/1.jpg` or `1.jpg`; any suffix)
                and of their sizes, white where the evidence should be, such as outlines of the
                objects; or the column `inside` of a table.
            pixel_range: The values of black and white in images of more than 8 bits; None: those of
                `black_box`, see `with_pixel_range`.

        Raises:
            InputError: The source cannot be used: it does not exist, or its form is unknown; or
                `inside` is no folder.
        """
        if inside is not None and not Path(inside).expanduser().is_dir():
            raise InputError(
                f"inside={str(inside)!r} is no folder; give one with images named like the data's, "
                "white where the evidence should be."
            )
        checks.counts("Dataset.open", max_images=max_images)
        black_box = with_pixel_range(black_box, pixel_range)
        records = records_of(
            source,
            black_box,
            labels=labels,
            boxes=boxes,
            classes=classes,
            max_images=max_images,
            use_labels=use_labels,
        )
        return Dataset(
            records,
            black_box,
            classes=classes,
            use_labels=use_labels,
            description=describe_source(
                source, labels=labels, boxes=boxes, classes=classes, inside=inside
            )
            + ("" if black_box.pixel_range is None else f", pixel range {black_box.pixel_range}"),
            inside=None if inside is None else Path(inside).expanduser(),
        )

    def load(
        self,
        *,
        select: Select | None = None,
        files: Callable[[int], bool] | None = None,
        keep_source: Select | None = None,
        num_workers: int = 0,
    ) -> Iterator[LoadedImage]:
        """Open the images in order.

        Args:
            select: Which images to open; None for all.
            files: Which archives to read, by number; None for all.
            keep_source: Which source images to keep; None for none.
            num_workers: Threads that read, decode and resize ahead, a bounded number of images; 0:
                each image is opened when its turn comes.
        """

        def ready(task: tuple[int, Record]) -> LoadedImage:
            index, record = task
            kept = self._kept.pop(index, None)
            keep = keep_source is not None and keep_source(index, record.name)
            if kept is not None and not keep:
                return kept
            return self._loader.load(index, record, keep_source=keep)

        tasks = (  # items of a user's data set are read here, in their order and in this thread
            (index, record if self._is_read_later(index, record) else record.fetched())
            for index, record in self._one_pass(files)
            if select is None or select(index, record.name)
        )
        if num_workers < 1:
            yield from map(ready, tasks)
            return
        pool, waiting = ThreadPoolExecutor(num_workers, "load"), deque[Future[LoadedImage]]()
        try:
            for task in tasks:
                waiting.append(pool.submit(ready, task))
                if len(waiting) > _AHEAD * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def batches(
        self,
        batch_size: int = 16,
        *,
        select: Select | None = None,
        files: Callable[[int], bool] | None = None,
        num_workers: int = 0,
    ) -> Iterator[Batch]:
        """Samples of images of one size; images without a label get the model's top class.

        Which images come together depends on their indices alone, and not on which others are
        selected or damaged: a batch has images of one block of `batch_size` indices.

        Args:
            batch_size: Images in one Sample at most, >= 1.
            select: As for `load`.
            files: As for `load`.
            num_workers: As for `load`.

        Returns:
            Batches in the order of the blocks. An image that cannot be used is a batch of its own,
            with a `failure`.

        Raises:
            InputError: `batch_size` is below 1.

        Example:
            >>> import torch
            >>> from saliencykit.testing import PlantedEvidence
            >>> black_box = PlantedEvidence()
            >>> images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
            >>> data = Dataset.open(list(zip(images, labels)), black_box)
            >>> [batch.names for batch in data.batches(batch_size=2)]
            [('0', '1'), ('2',)]
        """
        checks.counts("Dataset.batches", batch_size=batch_size)
        images = self.load(select=select, files=files, num_workers=num_workers)
        return make_batches(images, self.black_box, batch_size)

    def first(self, step: int = 1) -> Iterator[LoadedImage]:
        """Every `step`-th image that can be used, opened ahead of `load`, which will not open it
        again.

        Args:
            step: 1 for the first images; more to spread them over the data set.
        """
        for index, record in self._ahead():
            if index % step == 0:
                kept = self._kept.get(index)
                loaded = kept or self._loader.load(index, record, keep_source=False)
                self._kept[index] = loaded
                if loaded.image is not None:
                    yield loaded

    def preview(self, count: int, step: int = 1) -> Sample | None:
        """A few images of one size with labels; `load` will not open them again. None if no image
        can be used.

        Args:
            count: Images at most, >= 1.
            step: 1 for the first images; more for every `step`-th.
        """
        return few_images(self.first(step), self.black_box, count)

    def evenly_spaced(self, count: int | None) -> Iterator[LoadedImage]:
        """At most `count` images, evenly spaced; the first ones where the length is unknown. Of
        archives the same number from each of at most `count` of them.

        Args:
            count: At least 1; None for all.
        """
        if count is None or (self.count is not None and self.count <= count):
            return self.load()
        if files := self.files:
            numbers = {i * len(files) // count for i in range(count)}
            most = -(-count // len(numbers))

            def is_chosen(index: int, name: str) -> bool:
                size = files[index // FILE] or 0
                return index % FILE in {i * size // most for i in range(most)}

            return islice(self.load(select=is_chosen, files=lambda n: n in numbers), count)
        if self.count is None:
            return islice(self.load(), count)
        chosen = {i * self.count // count for i in range(count)}
        return self.load(select=lambda index, _: index in chosen)

    def records(self) -> list[Record]:
        """All records; those of an iterable or of archives are read and stay in memory, and are
        numbered from 0 without gaps.
        """
        if not isinstance(self._records, list):
            if isinstance(self._records, Archives):
                self._kept.clear()  # by the indices until now
            self._records = [record for _, record in self._one_pass()]
            self.count = len(self._records)
        return self._records

    def _ahead(self) -> Iterator[tuple[int, Record]]:
        """The records from the first one on, without taking them from `load`."""
        if isinstance(self._records, list | Archives):
            yield from self._one_pass()
            return
        if self._pending is None:
            self._pending = unique_names(self._records)
        yield from enumerate(self._taken)
        for record in self._pending:
            self._taken.append(record)
            yield len(self._taken) - 1, record

    def _one_pass(self, files: Callable[[int], bool] | None = None) -> Iterator[tuple[int, Record]]:
        """The records with their indices."""
        if isinstance(self._records, Archives):
            yield from self._records.numbered(files)
            return
        records = unique_names(self._records)
        if self._pending is not None:
            records = chain(self._taken, self._pending)
            self._taken, self._pending = [], None
        index = -1
        for index, record in enumerate(records):
            yield index, record
        self.count = index + 1 if self.count is None else self.count

    def _is_read_later(self, index: int, record: Record) -> bool:
        return index in self._kept or isinstance(record.image, ArchiveImage)

    def stale(self, known: Iterable[KnownImage]) -> set[int]:
        """The indices of images whose results are to be computed again: the file was replaced, or
        memory was short.

        Args:
            known: Index, name, `LoadedImage.file_key` and failure of each image with results.
                Files of an iterable that is read one item at a time are not checked.

        Warns:
            UserWarning: Files were replaced; the message names some.
        """
        archives = self._records if isinstance(self._records, Archives) else None
        records = list(unique_names(self._records)) if isinstance(self._records, list) else []
        replaced, short = {}, set()
        for index, name, key, failure in known:
            if OUT_OF_MEMORY in (failure or ""):
                short.add(index)
                continue
            if archives is not None and archives.is_replaced(index, name, key):
                replaced[index] = name
            record = records[index] if index < len(records) else None
            if record is not None and record.name == name and is_replaced(record, key):
                replaced[index] = name
        if replaced:
            few = ", ".join(list(replaced.values())[:_NAMED])
            more = f" and {len(replaced) - _NAMED} more" if len(replaced) > _NAMED else ""
            warnings.warn(
                f"files were replaced and their results are computed again: {few}{more}",
                stacklevel=3,
            )
        return short | replaced.keys()


def default_num_workers(num_workers: int | None, source: object = None) -> int:
    """Threads that read images; None: one per core of this process, at most 8, or 32 for images
    that are not on this machine, because they wait.
    """
    if num_workers is not None or is_remote(source):
        return _REMOTE_THREADS if num_workers is None else num_workers
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)  # of a launch, on this machine
    return max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // processes))
