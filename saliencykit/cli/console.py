"""Terminal output: progress, tables, and one line for a mistake."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_INTERVAL = 10.0  # seconds between lines without a terminal


class Update(Protocol):
    """Shows how far the work is.

    Args:
        done: Finished units.
        total: All units, if known.
        phase: The current phase, in place of the description; a new one counts from its own start.
        note: Further numbers, plain text.
    """

    def __call__(
        self, done: int, total: int | None = None, phase: str = "", note: str = ""
    ) -> None: ...


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A rich console without colored numbers."""
    return Console(stderr=stderr, quiet=quiet, soft_wrap=False, highlight=False)


@contextmanager
def progress(
    description: str, total: int | None = None, *, unit: str = "", quiet: bool = False
) -> Iterator[Update]:
    """A progress bar on stderr; without a terminal, a line every ten seconds and at the end.

    Args:
        description: Shown until the first phase begins.
        total: Number of units, if known.
        unit: What is counted, in the plural.
        quiet: Show nothing.

    Yields:
        A function to call after each finished unit.
    """
    to = console(stderr=True, quiet=quiet)
    columns = [TextColumn(f"{{task.{name}}}") for name in ("description", "fields[count]")]
    note_column = TextColumn("[dim]{task.fields[note]}[/dim]")
    bar = Progress(
        columns[0],
        BarColumn(24),
        columns[1],
        TimeRemainingColumn(),
        note_column,
        console=to,
        transient=True,
        disable=not to.is_terminal,
    )
    task = bar.add_task(escape(description), total=total, count="", note="")
    current, first, started = None, 0, time.monotonic()
    printed = started

    known = total

    def update(done: int, total: int | None = None, phase: str = "", note: str = "") -> None:
        nonlocal current, first, started, printed
        of, now, name = total or known, time.monotonic(), phase or description
        if name != current:  # the units of an earlier call took no time in this one
            current, first, started = name, done, now
            bar.reset(task, total=of, completed=max(0, done - 1), description=escape(name))
        count = f"{done}{f' of {of}' if of else ''} {unit}".rstrip()
        bar.update(task, completed=done, total=of, count=count, note=escape(note))
        if not to.is_terminal and (done == of or now - printed >= _INTERVAL):
            printed = now
            left = (now - started) / max(1, done - first) * ((of or 0) - done)
            rest = f", about {left:.0f} s left" if left > 0 else ""
            to.print(f"{name}: {count}{rest} {note}".rstrip(), soft_wrap=True, markup=False)

    with bar:
        yield update


def say(text: str, *, dim: bool = False, stderr: bool = False) -> None:
    """Print plain text; a line is as long as it is."""
    to = console(stderr=stderr)
    to.print(text, style="dim" if dim else None, soft_wrap=True, markup=False)


def emit_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    typer.echo(json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table on stdout.

    Args:
        columns: Titles.
        rows: Cells, with rich markup.
        left: The first so many columns are text, aligned left; the others are numbers.
    """
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for i, title in enumerate(columns):
        grid.add_column(title, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console().print(grid)


def complain(message: str) -> None:
    """Print one line on stderr."""
    typer.echo(" ".join(message.split()), err=True)


def warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line on stderr; replaces `warnings.showwarning`."""
    complain(f"Warning: {message}")
