"""What the command line shows while it explains a clip: frames, frames a second, and the time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saliencykit.cli.console import console

_EVERY = 10.0  # seconds between the lines where there is no terminal


@contextmanager
def clip_bar(total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; without a terminal, a line every ten seconds.

    Args:
        total: Frames, or None where the file does not say.
        quiet: Show nothing.

    Yields:
        A function that takes the number of frames that are done.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    to = console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("frame"),
        MofNCompleteColumn(),
        BarColumn(24),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=to, transient=True, disable=not to.is_terminal)
    task = progress.add_task("explaining", total=total, pace="")
    started = said = 0.0

    def advance(done: int) -> None:
        nonlocal started, said
        now = time.perf_counter()
        if not started:  # with the first frame: what comes before it is the model's loading
            started = said = now
            return
        pace = (done - 1) / max(now - started, 1e-6)
        progress.update(task, completed=done, pace=f"{pace:.1f} a second")
        if not to.is_terminal and now - said > _EVERY:
            said = now
            of = "" if total is None else f" of {total}"
            left = "" if total is None else f", {max(0, total - done) / pace:.0f} s left"
            to.print(f"frame {done}{of}: {pace:.1f} a second{left}", soft_wrap=True)

    with progress:
        yield advance
