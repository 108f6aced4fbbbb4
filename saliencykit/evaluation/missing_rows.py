"""MissingRows: scores what a run does not have yet, batch by batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, final

from saliencykit.core.errors import InputError
from saliencykit.data.dataset import Dataset
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scorer import ScoredMask, Scorer
from saliencykit.runs.distributed import Processes

OnRow: TypeAlias = Callable[[Row, int, int | None], object]
"""Called with each new row, the number of finished rows, and the total where it is known."""


@final
@dataclass(frozen=True)
class MissingRows:
    """The rows of an evaluation that are not known yet.

    Args:
        scorer: Maskers and metrics.
        data: The images.
        batch_size: Images per batch.
        processes: The processes that share the images, a block of `batch_size` at a time.
        known: The names of the images by index and masker, of the rows that are known.
        on_row: Called after each row.
    """

    scorer: Scorer
    data: Dataset
    batch_size: int
    processes: Processes
    known: Mapping[tuple[int, str], str]
    on_row: OnRow | None

    def __iter__(self) -> Iterator[list[ScoredMask]]:
        """The missing rows, a list for each batch and masker."""
        maskers, count = self.scorer.maskers, self.data.count
        names = {index: name for (index, _), name in self.known.items()}
        done = sum(
            self._is_mine(index)
            for index, masker in self.known
            if masker in maskers and (count is None or index < count)
        )
        total = None if count is None else len(maskers) * sum(map(self._is_mine, range(count)))

        def is_wanted(index: int, name: str) -> bool:
            if names.get(index, name) != name:
                raise InputError(
                    f"the data set is not the one of the run directory: image {index} was "
                    f"{names[index]!r}, and is {name!r} now."
                )
            first = index - index % self.batch_size
            last = first + self.batch_size
            block = range(first, last if count is None else min(last, count))
            return self._is_mine(index) and any(
                (place, masker) not in self.known for place in block for masker in maskers
            )

        for batch in self.data.batches(self.batch_size, select=is_wanted):
            missing = [
                name
                for name in maskers
                if any((index, name) not in self.known for index in batch.indices)
            ]
            keys = dict(zip(batch.indices, batch.file_keys, strict=True))
            for scored in self.scorer.score(batch, missing):
                new = [
                    replace(each, row=replace(each.row, file_key=keys[each.row.index]))
                    for each in scored
                    if each.row.key not in self.known
                ]
                yield new
                for each in new:
                    done += 1
                    if self.on_row is not None:
                        self.on_row(each.row, done, total)

    def _is_mine(self, index: int) -> bool:
        return index // self.batch_size % self.processes.count == self.processes.rank
