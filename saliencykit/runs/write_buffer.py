"""WriteBuffer: results that are written together, after some seconds or when there are many."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar, final

T = TypeVar("T")
_MOST = 1024  # results in a file
_BYTES = 2**25
SECONDS = 10.0  # that a killed process loses at most


@final
class WriteBuffer(Generic[T]):
    """Collects results and writes them together: 1,024 of them, 32 MB, or those of ten seconds.

    A thread writes while the next results are computed. What is held is written at the end of the
    block, also after an error and Ctrl-C.

    Args:
        write: Writes results.

    Example:
        >>> with WriteBuffer(print) as buffer:
        ...     buffer.add([1, 2])
        ...     buffer.add([3])
        [1, 2, 3]
    """

    def __init__(self, write: Callable[[list[T]], object]) -> None:
        self._write, self._pool = write, ThreadPoolExecutor(1, "write")
        self._held: list[T] = []
        self._writing: Future[object] | None = None
        self._bytes, self._since = 0, time.monotonic()

    def add(self, results: Sequence[T], size: int = 0) -> None:
        """Take results.

        Args:
            results: In their order.
            size: In bytes.
        """
        self._held += results
        self._bytes += size
        due = time.monotonic() - self._since >= SECONDS
        if due or len(self._held) >= _MOST or self._bytes >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Begin to write what is held, once what was held before is written.

        Raises:
            SaliencyKitError: That could not be written.
        """
        self._wait()
        held, self._held = self._held, []
        if held:
            self._writing = self._pool.submit(self._write, held)
        self._bytes, self._since = 0, time.monotonic()

    def __enter__(self) -> "WriteBuffer[T]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._pool:
            self.flush()
            self._wait()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
