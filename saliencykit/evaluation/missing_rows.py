"""MissingRows: scores what a run does not have yet, batch by batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, final

from saliencykit.data.dataset import Dataset
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scorer import ScoredMask, Scorer
from saliencykit.runs.distributed import Processes
from saliencykit.runs.division import Division

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
        maskers = self.scorer.maskers
        names = {index: name for (index, _), name in self.known.items()}
        complete = {index for index in names if all((index, m) in self.known for m in maskers)}
        data = self.data
        part = Division(self.processes, self.batch_size, data.count, data.files, names, complete)
        done = sum(part.counts(index) for index, masker in self.known if masker in maskers)
        total = None if part.total is None else len(maskers) * part.total
        for batch in data.batches(self.batch_size, select=part.is_missing, files=part.is_my_file):
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
