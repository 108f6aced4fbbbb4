"""Division: which images of a data set a process works on, and which of them are missing."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import final

from saliencykit.core.errors import InputError
from saliencykit.runs.distributed import Processes

_MOST = 1024  # images that follow each other and go to one process
_TURNS = 8  # of each process at least, so that none gets much more than another
_UNKNOWN = 4  # batches of one turn where the number of images is unknown


@final
@dataclass(frozen=True)
class Division:
    """The images of one process.

    A batch of images is always complete, because the last digits of results depend on it. Batches
    that follow each other go to one process together, as far as there are enough for all.

    Args:
        processes: This process among the others.
        batch_size: Images per batch.
        count: The number of images; None if it is unknown.
        names: The names of the images that have results, by index.
        complete: The indices of those that have all results; None: of `names`.
    """

    processes: Processes
    batch_size: int
    count: int | None
    names: Mapping[int, str] = field(default_factory=dict, repr=False)
    complete: Container[int] | None = field(default=None, repr=False)

    def turn(self, index: int) -> int:
        """The number of the turn that an image belongs to; a turn is of one process."""
        batches = _UNKNOWN
        if self.count is not None:
            share = -(-self.count // self.batch_size) // (self.processes.count * _TURNS)
            batches = max(1, min(_MOST // self.batch_size, share))
        return index // (self.batch_size * batches)

    def is_mine(self, index: int) -> bool:
        """Whether this process works on an image."""
        return self.turn(index) % self.processes.count == self.processes.rank

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
        last = first + self.batch_size
        batch = range(first, last if self.count is None else min(last, self.count))
        return self.is_mine(index) and any(place not in complete for place in batch)

    @property
    def total(self) -> int | None:
        """The number of images of this process, if it is known."""
        return None if self.count is None else sum(map(self.is_mine, range(self.count)))

    def counts(self, index: int) -> bool:
        """Whether an image that has results is among those of this process."""
        return self.is_mine(index) and (self.count is None or index < self.count)
