"""Division: which images of a data set a process works on, and which of them are missing."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from saliencykit.core.errors import InputError
from saliencykit.runs.distributed import Processes

FILE = 10**7
"""Indices of one file of many images: the sixth image of the third file has the index 20000005."""
_MOST = 1024  # images that follow each other and go to one process
_TURNS = 8  # of each process at least, so that none gets much more than another
_UNKNOWN = 4  # batches of one turn where the number of images is unknown


@final
@dataclass(frozen=True)
class Division:
    """The images of one process.

    A batch of images is always complete, because the last digits of results depend on it. Batches
    that follow each other go to one process together, as far as there are enough for all; of data
    in files of many images a process has whole files, where there are enough of them.

    Args:
        processes: This process among the others.
        batch_size: Images per batch.
        count: The number of images; None if it is unknown.
        files: Of files of many images, the number of images in each; None where it is not known
            yet. Empty for other data.
        names: The names of the images that have results, by index.
        complete: The indices of those that have all results; None: of `names`.
    """

    processes: Processes
    batch_size: int
    count: int | None
    files: Sequence[int | None] = ()
    names: Mapping[int, str] = field(default_factory=dict, repr=False)
    complete: Container[int] | None = field(default=None, repr=False)

    @property
    def by_file(self) -> bool:
        """Whether each process has whole files."""
        return len(self.files) >= max(2, self.processes.count)

    def turn(self, index: int) -> int:
        """The number of the turn that an image belongs to; a turn is of one process."""
        if self.by_file:
            return index // FILE
        batches = _UNKNOWN
        if self.count is not None:
            share = -(-self.count // self.batch_size) // (self.processes.count * _TURNS)
            batches = max(1, min(_MOST // self.batch_size, share))
        return index // (self.batch_size * batches)

    def is_mine(self, index: int) -> bool:
        """Whether this process works on an image."""
        turn = self.turn(index)
        if self.files and not self.by_file:
            turn += index // FILE  # small files begin with others
        return turn % self.processes.count == self.processes.rank

    def is_my_file(self, number: int) -> bool:
        """Whether this process works on images of a file."""
        return not self.by_file or self.is_mine(number * FILE)

    def is_missing(self, index: int, name: str) -> bool:
        """Whether an image is opened: it is of this process, and one of its batch has no result.

        Raises:
            InputError: The image of this index had another name.
        """
        if self.names.get(index, name) != name:
            raise InputError(
                f"the data set is not the one of the run directory: image {index} was "
                f"{self.names[index]!r}, and is {name!r} now."
            )
        complete = self.names if self.complete is None else self.complete
        first = index - index % self.batch_size
        last, end = first + self.batch_size, self._end(index)
        batch = range(first, last if end is None else min(last, end))
        return self.is_mine(index) and any(place not in complete for place in batch)

    @property
    def total(self) -> int | None:
        """The number of images of this process, if it is known."""
        sizes = dict(enumerate(self.files or [self.count]))
        mine = {number: size for number, size in sizes.items() if self.is_my_file(number)}
        if None in mine.values():
            return None
        starts = ((number * FILE, size or 0) for number, size in mine.items())
        return sum(self.is_mine(start + row) for start, size in starts for row in range(size))

    def counts(self, index: int) -> bool:
        """Whether an image that has results is among those of this process."""
        end = self._end(index)
        return self.is_mine(index) and (end is None or index < end)

    def _end(self, index: int) -> int | None:
        """The index after the last image of a file, or of all data; None where it is unknown."""
        if not self.files:
            return self.count
        number = index // FILE
        size = self.files[number] if number < len(self.files) else 0
        return None if size is None else number * FILE + size
