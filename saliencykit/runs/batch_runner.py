"""Batches of images that must not fail together: what fails is tried one image at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import reason_of
from saliencykit.core.errors import DeviceMemoryError

_T = TypeVar("_T")
OUT_OF_MEMORY = (torch.cuda.OutOfMemoryError, MemoryError)


def run_batch(
    work: Callable[[Sequence[int]], Sequence[_T]],
    rows: Sequence[int],
    on_failure: Callable[[int, str], _T],
    *,
    black_box: BlackBox,
) -> list[_T]:
    """The results of a batch; if it fails, of each image alone, so that one image costs no other.

    Args:
        work: From rows of the batch to one result for each of them.
        rows: All rows of the batch.
        on_failure: From a row that fails alone, and why in one line, to its result.
        black_box: Names the device in the error.

    Raises:
        DeviceMemoryError: The device's memory is too small; the message says what to do.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> def halve(rows):
        ...     return [6 // row for row in rows]
        >>> run_batch(halve, [2, 0], lambda row, why: why, black_box=PlantedEvidence())
        [3, 'ZeroDivisionError: integer division or modulo by zero']
    """
    try:
        with memory_named(black_box, len(rows)):
            return list(work(rows))
    except DeviceMemoryError:
        raise
    except Exception as error:
        if len(rows) == 1:
            return [on_failure(rows[0], reason_of(error))]
    return [
        result for row in rows for result in run_batch(work, [row], on_failure, black_box=black_box)
    ]


@contextmanager
def memory_named(black_box: BlackBox, count: int) -> Iterator[None]:
    """Says what to do where the memory of the black box's device is too small for a batch.

    Args:
        black_box: Names the device.
        count: The number of images.

    Raises:
        DeviceMemoryError: In place of an out-of-memory error of torch or Python.
    """
    try:
        yield
    except OUT_OF_MEMORY as error:
        raise DeviceMemoryError(
            f"a batch of {count} needs more memory than {black_box.device} has; use a smaller "
            "batch: batch_size=1 (--batch-size 1)."
            if count > 1
            else f"one image needs more memory than {black_box.device} has; use smaller images, a "
            "smaller model, or another device."
        ) from error
