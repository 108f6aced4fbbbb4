"""Archives: files of many images, webdataset's tars and Parquet files, listed one at a time."""

import glob
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product, takewhile
from pathlib import Path
from typing import Any, final

from saliencykit.core.errors import InputError
from saliencykit.data.record import Record, unique_names
from saliencykit.runs.division import FILE
from saliencykit.storage.locations import files_below, is_remote, location, state_of_file

SUFFIXES = (".tar", ".parquet")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LISTED = 2  # archives in memory: the one that is read, and the next one


@dataclass(frozen=True)
class Archive(ABC):
    """A file of many images.

    Args:
        path: The file.
        name: Its path inside the folder of all archives, with which the names of its images begin.
    """

    path: Path
    name: str

    @abstractmethod
    def records(self) -> list[Record]:
        """The images in the order of the file; none is decoded. Where the file is damaged, the last
        record says so.

        Raises:
            OSError: The file cannot be read.
        """

    @abstractmethod
    def read(self, place: Any) -> object:
        """An image: the bytes of its file, or its path.

        Args:
            place: As `records` gave it.
        """

    @cached_property
    def facts(self) -> str:
        """By what a change of the archive is noticed."""
        facts, tag = state_of_file(self.path)
        return facts if tag is None else f"{facts}-{tag}"

    def damaged(self, images: int, why: object) -> Record:
        """The record in place of what cannot be read."""
        failure = f"{self.name} is damaged after {images} images: {why}"
        return Record(self.name, "", failure=failure, file_key=f"{self.facts}-damaged")


@final
@dataclass(frozen=True)
class Archives:
    """The archives of a data set; an image's index is `FILE` times the number of its archive, plus
    its place there.

    Args:
        files: The archives.
        edit: Adds labels and boxes to the records of one.
        last: Images of the last archive that are used, the first ones; None: all.
        sizes: The number of images in each; None until it was listed.
    """

    files: tuple[Archive, ...]
    edit: Callable[[list[Record]], Iterable[Record]] = lambda records: records
    last: int | None = None
    sizes: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sizes.extend([None] * (len(self.files) - len(self.sizes)))

    def first(self, images: int | None) -> "Archives":
        """The first images: archives are listed until there are enough."""
        for number in range(0 if images is None else len(self.files)):
            size = len(self.records(number))
            if images is not None and size >= images:
                return Archives(self.files[: number + 1], self.edit, images)
            images = (images or 0) - size
        return self

    def records(self, number: int) -> list[Record]:
        """The images of an archive.

        Raises:
            InputError: It cannot be read, or its images are too many.
        """
        return self._listed(number)

    @cached_property
    def _listed(self) -> Callable[[int], list[Record]]:
        return lru_cache(_LISTED)(self._list)

    def _list(self, number: int) -> list[Record]:
        archive = self.files[number]
        try:
            found = list(unique_names(self.edit(archive.records())))
        except OSError as error:
            raise InputError(f"{archive.path} cannot be read: {error.strerror or error}.") from None
        if len(found) > FILE:
            raise InputError(f"{archive.path} has {len(found)} images; split it, {FILE} at most.")
        some = found[: self.last] if number == len(self.files) - 1 else found
        self.sizes[number] = len(some)
        return some

    def numbered(self, files: Callable[[int], bool] | None) -> Iterator[tuple[int, Record]]:
        """The images with their indices; the next archive is listed while one is read.

        Args:
            files: Which archives, by number; None: all.
        """
        numbers = [each for each in range(len(self.files)) if files is None or files(each)]
        with ThreadPoolExecutor(1, "archive") as pool:
            ahead = [pool.submit(self.records, number) for number in numbers[:1]]
            for number, following in zip(numbers, [*numbers[1:], None], strict=True):
                records = ahead.pop().result()
                if following is not None:
                    ahead.append(pool.submit(self.records, following))
                yield from enumerate(records, number * FILE)

    def is_replaced(self, index: int, name: str, key: str | None) -> bool:
        """Whether an image is another than when it had this key; see `data.file_key`."""
        number, row = divmod(index, FILE)
        if key is None or number >= len(self.files):
            return False
        if key.startswith(f"{self.files[number].facts}-"):
            return False
        records = self.records(number)
        now = records[row].fetched() if row < len(records) else Record("", "")
        digest = (now.file_key or "").rpartition("-")[2]
        return (now.name, digest) != (name, key.rpartition("-")[2])


def archive_paths(source: object) -> list[Path]:
    """The archives that a text names: a file, a pattern such as `shards/*.tar`, or a range such as
    `shards/{000..063}.tar`. None if it names something else.

    Example:
        >>> [str(path) for path in archive_paths("shards/{08..10}.tar")]
        ['shards/08.tar', 'shards/09.tar', 'shards/10.tar']
    """
    text = str(source) if isinstance(source, str | os.PathLike) else ""
    if not text.lower().endswith(SUFFIXES):
        return []
    found: list[Path] = []
    for each in _ranges(text):
        path: Any = location(each)
        if not glob.has_magic(each) or (not is_remote(path) and path.is_file()):
            found.append(path)
        elif is_remote(path):
            names = (name.lstrip("/") for name in path.fs.glob(path.path))
            found += [location(f"{path.protocol}://{name}") for name in names]
        else:
            found += [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    return found


def archives_below(folder: Path) -> list[Path]:
    """The archives in a folder and its subfolders, sorted."""
    paths = (path for path, _ in files_below(folder, recursive=True))
    return sorted(each for each in paths if each.suffix in SUFFIXES and each.name[0] != ".")


def names_below(paths: list[Path]) -> list[str]:
    """The paths inside the folder that all files are in, with `/`."""
    parts = [path.as_posix().split("/") for path in paths]
    columns = zip(*(each[:-1] for each in parts), strict=False)
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return ["/".join(each[common:]) for each in parts]


def _ranges(text: str) -> list[str]:
    pieces = _RANGE.split(text)  # text, first, last, text, ...
    ranges = [
        [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        for first, last in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    texts = [[each] for each in pieces[::3]]
    between = [part for pair in zip(texts, ranges, strict=False) for part in pair] + texts[-1:]
    return ["".join(each) for each in product(*between)]
