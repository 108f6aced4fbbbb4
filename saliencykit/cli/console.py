"""Terminal output: progress, tables, and one line for a mistake."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from saliencykit.core.visible_text import visible

_INTERVAL = 10.0  # seconds between lines without a terminal


Update: TypeAlias = Callable[..., None]
"""`update(done, total=None, phase="", note="")`, see `progress`."""


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
        `update(done, total, phase, note)`: the number of finished units, that of all units if
        known, the current phase in place of the description (each counts from its own start), and
        further numbers to show.
    """
    to = console(stderr=True, quiet=quiet)
    text, count_text, note_text = (
        TextColumn(f"{{task.{field}}}", markup=False)
        for field in ("description", "fields[count]", "fields[note]")
    )
    columns = (text, BarColumn(24), count_text, TimeRemainingColumn(), note_text)
    bar = Progress(*columns, console=to, transient=True, disable=not to.is_terminal)
    task = bar.add_task(description, total=total, count="", note="")
    all_units, current, first = total, "", 0
    printed = started = time.monotonic()

    def update(done: int, total: int | None = None, phase: str = "", note: str = "") -> None:
        nonlocal current, first, started, printed
        total, now, name = total or all_units, time.monotonic(), visible(phase or description)
        note = visible(note)
        if name != current:  # units of an earlier call took no time in this one
            current, first, started = name, done, now
            bar.reset(task, total=total, completed=max(0, done - 1), description=name)
        counted = unit.removesuffix("s") if done == 1 and not total else unit
        count = f"{done}{f' of {total}' if total else ''} {counted}".rstrip()
        bar.update(task, completed=done, total=total, count=count, note=note)
        if not to.is_terminal and (done == total or now - printed >= _INTERVAL):
            printed = now
            left = (now - started) / max(1, done - first) * ((total or 0) - done)
            parts = (f"{name}: {count}", f"about {left:.0f} s left" if left > 0 else "", note)
            to.print(", ".join(filter(None, parts)), soft_wrap=True, markup=False)

    with bar if to.is_terminal else nullcontext():  # rich 13 prints an empty line at its end
        yield update


def say(text: str, *, dim: bool = False, stderr: bool = False) -> None:
    """Print plain text; a line is as long as it is."""
    to = console(stderr=stderr)
    to.print(visible(text), style="dim" if dim else None, soft_wrap=True, markup=False)


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
        grid.add_column(visible(title), justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(visible, row))
    console().print(grid)


def number(value: float | None, is_score: bool) -> str:
    """A probability or an area in percent, a score as it is."""
    if value is None:
        return "-"
    return f"{value:.4g}" if is_score else f"{value:.1%}"


def complain(message: str) -> None:
    """Print one line on stderr."""
    typer.echo(visible(" ".join(message.split())), err=True)


def warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line on stderr; replaces `warnings.showwarning`."""
    complain(f"Warning: {message}")
