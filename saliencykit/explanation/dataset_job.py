"""DatasetJob: what one process does of a run of `explain_dataset`."""

from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, final

from torch import Tensor

from saliencykit.data.batches import in_blocks
from saliencykit.data.dataset import Dataset
from saliencykit.explanation.dataset_run import ExplanationsDirectory, overlay_path, save_overlay
from saliencykit.explanation.dataset_worker import Explained, Worker, draw
from saliencykit.runs.division import Division
from saliencykit.runs.write_buffer import WriteBuffer
from saliencykit.storage.blocks import BlockFormat
from saliencykit.storage.explanation_rows import ExplainedRow

OnExplained: TypeAlias = Callable[[ExplainedRow, int, int | None], object]
"""Called after each row with the row, the number of finished rows, and the total if it is known."""


@final
@dataclass(frozen=True)
class DatasetJob:
    """The part of a run that one process does.

    Args:
        worker: Explains the images of a batch.
        run: The run directory.
        form: Of the blocks of rows and masks.
        overlays: Number of images to draw, evenly spaced; the first ones where the length of the
            data is unknown.
        threads: Threads that read images and draw overlays.
    """

    worker: Worker
    run: ExplanationsDirectory
    form: BlockFormat
    overlays: int
    threads: int

    def work(self, images: Dataset, part: Division, on_row: OnExplained | None) -> None:
        """Explain the images of this process that have no row yet.

        Args:
            images: The data set.
            part: The images of this process.
            on_row: Called after each row.
        """
        done, total, turn = sum(map(part.counts, part.names)), part.total, None
        drawn = _spaced(images.count, self.overlays)
        ahead = images.load(
            select=part.is_missing,
            files=part.is_my_file,
            keep_source=lambda index, _: index in drawn,
            num_workers=self.threads,
        )
        with (
            ThreadPoolExecutor(max(1, self.threads), "overlays") as pool,
            WriteBuffer(self._write) as buffer,
        ):
            for batch in in_blocks(ahead, part.batch_size):
                if turn not in (None, part.turn(batch[0].index) - 1, part.turn(batch[0].index)):
                    buffer.flush()  # images of other processes lie between
                turn = part.turn(batch[0].index)
                explained = self.worker.explain(batch)
                new = [each for each in explained if each.row.index not in part.names]
                list(pool.map(self._save_overlay, [e for e in new if e.row.index in drawn]))
                # images and masks of the model's size would fill the memory meanwhile
                size = sum(0 if each.map is None else each.map.nbytes for each in new)
                buffer.add([(each.row, each.map) for each in new], size)
                for each in new:
                    done += 1
                    if on_row is not None:
                        on_row(each.row, done, total)

    def _write(self, results: list[tuple[ExplainedRow, Tensor | None]]) -> None:
        maps = {row.index: stored for row, stored in results if stored is not None}
        self.run.blocks.write([row for row, _ in results], maps, self.form)

    def _save_overlay(self, explained: Explained) -> None:
        if explained.mask is not None:
            overlay = draw(explained.image, explained.mask)
            save_overlay(overlay_path(self.run.path, explained.row.index), overlay)


def _spaced(length: int | None, count: int) -> Container[int]:
    """At most `count` indices, evenly spaced: files are sorted by class."""
    if length is None or length <= count:
        return range(count)
    return {i * length // count for i in range(count)}
