"""DatasetJob: what one process does of a run of `explain_dataset`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, final

from saliencykit.core.errors import InputError
from saliencykit.data.batches import in_blocks
from saliencykit.data.dataset import Dataset
from saliencykit.explanation.dataset_run import ExplanationsDirectory, overlay_path, save_overlay
from saliencykit.explanation.dataset_worker import Explained, Worker, draw
from saliencykit.runs.distributed import Processes
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.jsonl import append_lines
from saliencykit.storage.map_shards import ShardWriter

OnExplained: TypeAlias = Callable[[ExplainedRow, int, int | None], object]
"""Called after each row with the row, the number of finished rows, and the total if it is known."""


@final
@dataclass(frozen=True)
class DatasetJob:
    """The part of a run that one process does: every block of images that is its turn.

    Args:
        worker: Explains the images of a block.
        run: The run directory.
        processes: This process among the others.
        batch_size: Images per block.
        overlays: Number of images, the first ones, to draw.
        threads: Threads that read images and draw overlays.
    """

    worker: Worker
    run: ExplanationsDirectory
    processes: Processes
    batch_size: int
    overlays: int
    threads: int

    def work(self, images: Dataset, on_row: OnExplained | None) -> None:
        """Explain the images of this process that have no row yet, block by block.

        The maps of a block are written before its rows: an image with a row is finished.
        """
        known, rank, count = self.run.known(), self.processes.rank, images.count
        total = None if count is None else sum(map(self._is_mine, range(count)))
        done = sum(self._is_mine(index) for index in known if count is None or index < count)
        writer = ShardWriter(self.run.path, rank, self.run.next_shard(rank))

        def is_missing(index: int, name: str) -> bool:
            if known.get(index, name) != name:
                raise InputError(
                    f"the data set is not the one of the run directory: image {index} was "
                    f"{known[index]!r}, and is {name!r} now."
                )
            first = index - index % self.batch_size
            last = first + self.batch_size
            block = range(first, last if count is None else min(last, count))
            return self._is_mine(index) and any(place not in known for place in block)

        def is_drawn(index: int, name: str) -> bool:
            return index < self.overlays

        ahead = images.load(select=is_missing, keep_source=is_drawn, num_workers=self.threads)
        with ThreadPoolExecutor(max(1, self.threads), "overlays") as pool:
            for block in in_blocks(ahead, self.batch_size):
                new = [each for each in self.worker.explain(block) if each.row.index not in known]
                list(pool.map(self._save_overlay, new))
                maps = {str(each.row.index): each.map for each in new if each.map is not None}
                shard = writer.add(maps) if maps else ""
                rows = [each.row if each.map is None else each.row.in_shard(shard) for each in new]
                append_lines(self.run.rows_of(rank), (row.line() for row in rows))
                for row in rows:
                    done += 1
                    if on_row is not None:
                        on_row(row, done, total)
        writer.finish()

    def _is_mine(self, index: int) -> bool:
        return index // self.batch_size % self.processes.count == self.processes.rank

    def _save_overlay(self, explained: Explained) -> None:
        index = explained.row.index
        if explained.mask is not None and index < self.overlays:
            overlay = draw(explained.image, explained.mask)
            save_overlay(overlay_path(self.run.path, index), overlay)
