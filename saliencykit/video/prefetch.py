"""prefetch(): compute the next items in a thread while the last one is used."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
_WAIT = 0.2  # seconds between checks whether the other side is still there


def prefetch(
    items: Iterable[T], depth: int, name: str = "saliencykit-prefetch"
) -> Generator[T, None, None]:
    """The same items in the same order, computed in a thread up to `depth` items ahead.

    Exceptions of the thread are raised here, after the items before them. When this generator is
    closed or interrupted, the thread stops after its current item and closes `items` if that is a
    generator.

    Args:
        items: Iterated in the thread.
        depth: >= 0. 0: no thread, each item is computed when it is requested.
        name: Of the thread.

    Example:
        >>> list(prefetch(range(3), 2))
        [0, 1, 2]
    """
    if depth == 0:
        yield from items
        return
    made: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_make, args=(items, made, stop), name=name, daemon=True)
    thread.start()
    try:
        while True:
            try:
                # without a timeout Ctrl-C does not get through on every platform
                kind, value = made.get(timeout=_WAIT)
            except queue.Empty:
                continue
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join(timeout=5)  # do not wait for a camera that hangs


def _make(
    items: Iterable[Any], made: "queue.Queue[tuple[str, Any]]", stop: threading.Event
) -> None:
    last: tuple[str, Any] = ("end", None)
    source = iter(items)
    try:
        for item in source:
            if not _put(made, ("item", item), stop):
                break
    except BaseException as error:
        last = ("error", error)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                last = ("error", error) if last[0] == "end" else last
        _put(made, last, stop)


def _put(
    made: "queue.Queue[tuple[str, Any]]", thing: tuple[str, Any], stop: threading.Event
) -> bool:
    while not stop.is_set():
        try:
            made.put(thing, timeout=_WAIT)
        except queue.Full:
            continue
        return True
    return False
