"""A run in a directory: one launch at a time, no leftovers, and the same number of threads whenever
it is resumed.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from saliencykit.runs.lock import locked
from saliencykit.storage.atomic_files import remove_unfinished, writable, write_text
from saliencykit.storage.locations import is_remote, read_bytes, remove_file

_THREADS = "threads.txt"


@contextmanager
def run_in(directory: Path, *, resume: bool, alone: bool = True) -> Iterator[None]:
    """In this block a run writes to a directory; for the one process that prepares it.

    Args:
        directory: Created if needed. Unfinished files of killed processes are removed.
        resume: Continue the run in the directory; False: start from the beginning.
        alone: No other process may write there. False: shards do at the same time, and write the
            same files where two have the same part.

    Raises:
        InputError: Nothing can be written there, or another process is writing there.
    """
    if not is_remote(directory) or not alone:  # the lock is an object that is written
        writable(directory)
    with locked(directory / "lock") if alone else nullcontext():
        remove_unfinished(directory, of_all=alone)
        if not resume:
            remove_file(directory / _THREADS)
        with same_threads(directory):
            yield


@contextmanager
def same_threads(directory: Path) -> Iterator[None]:
    """In this block torch uses as many threads as when the run was started, because the last digits
    of sums depend on them.

    Args:
        directory: The number is recorded there, in `threads.txt`.
    """
    own = count = torch.get_num_threads()
    try:
        count = int(read_bytes(directory / _THREADS))
    except (OSError, ValueError):
        write_text(directory / _THREADS, f"{own}\n")
    torch.set_num_threads(count if 0 < count < 2**16 else own)
    try:
        yield
    finally:
        torch.set_num_threads(own)
