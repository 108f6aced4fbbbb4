"""What the command line shows: bars while it works, tables when it is done, one line for a mistake."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from saliencykit.explanation.result import Explanation
    from saliencykit.training.schedule import FitStep

_EVERY = 50  # steps between the lines of a training without a terminal


@contextmanager
def explaining_bar(images: int, *, quiet: bool) -> "Iterator[Callable[[int], None]]":
    """A bar on stderr that shows itself after a second: images explained and evaluations of the
    model so far.
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    count = TextColumn("{task.completed:.0f} evaluations")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), count, TimeElapsedColumn())
    to = console(stderr=True)
    progress = Progress(*columns, console=to, transient=True)
    task = progress.add_task(f"explaining {images} image{'s' if images != 1 else ''}", total=None)
    started = time.perf_counter()
    shown = False

    def advance(count: int) -> None:
        nonlocal shown
        progress.update(task, advance=count)
        if not shown and not quiet and to.is_terminal and time.perf_counter() - started > 1:
            shown = True
            progress.start()

    try:
        yield advance
    finally:
        if shown:
            progress.stop()


@contextmanager
def training_bar(
    to: "Console",
) -> "Iterator[tuple[Callable[[FitStep], None], Callable[[str], None]]]":
    """A bar with the terms of the last step and the time left; without a terminal, a line now and
    then.
    """
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.fields[steps]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(
        *columns,
        TextColumn("{task.fields[terms]}"),
        console=to,
        transient=True,
        disable=not to.is_terminal,
    )
    task = progress.add_task("getting ready", total=None, steps="", terms="", start=False)

    def on_message(line: str) -> None:
        to.print(f"[dim]{escape(line)}[/dim]", soft_wrap=True)

    def on_step(step: "FitStep") -> None:
        terms = f"loss {step.loss:.2f}"
        if step.phase != "warm-up":
            terms += f" area {step.area:.2f} kept {step.kept:.2f} dropped {step.dropped:.2f} fakes {step.fake_area:.2f}"
        if not to.is_terminal and step.number % _EVERY == 0:
            to.print(f"step {step.number} of {step.of}: {terms}", soft_wrap=True)
        steps = f"{step.number}/{step.of}"
        progress.start_task(task)
        progress.update(
            task,
            completed=step.number,
            total=step.of,
            steps=steps,
            terms=terms,
            description=step.phase,
        )

    with progress:
        yield on_step, on_message


@contextmanager
def counting_bar(
    to: "Console", things: str, every: int
) -> "Iterator[Callable[[int, int | None, str], None]]":
    """A bar of finished things with the time left; without a terminal, a line at every tenth.

    Args:
        to: Where it is shown.
        things: What is counted, in the plural.
        every: Things between two lines where nobody knows how many there will be.

    Yields:
        A function that takes the number of finished things, that of all of them or None, and what
        is being done.
    """
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TextColumn(things),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=to, transient=True, disable=not to.is_terminal)
    task = progress.add_task("getting ready", total=None)
    said, first, started = 0, 0, time.monotonic()

    def advance(done: int, total: int | None, doing: str) -> None:
        nonlocal said, first
        if not first:  # what a killed run had finished took no time now
            first = done
            progress.reset(task, total=total, completed=done - 1)
        progress.update(task, completed=done, description=escape(doing))
        tenth = 10 * done // total if total else done // every
        if not to.is_terminal and tenth > said:
            said = tenth
            pace = (time.monotonic() - started) / (done - first + 1)
            left = f", about {pace * (total - done):.0f} s left" if total else ""
            to.print(f"{done} of {total or '?'} {things}{left}", soft_wrap=True)

    with progress:
        yield advance


def gate_line(gate: dict[str, Any]) -> str:
    """What the held-out pictures say of a trained masker, in one line."""
    mosaics = (
        "" if gate["mosaic"] != gate["mosaic"] else f"; mosaics {gate['mosaic']:.2f} (chance 0.25)"
    )
    return (
        f"held out, {gate['n']} pictures: area {gate['area']:.1%}, kept {gate['kept']:.1%}, "
        f"dropped {gate['dropped']:.1%} (whole {gate['whole']:.1%}); a class that is not there "
        f"gets {gate['fake']:.2f} of the area{mosaics}"
    )


def facts(
    answer: "Explanation", images: list[str] | None, output: Path, seconds: float
) -> dict[str, Any]:
    """What is said of an explanation, as JSON."""
    sources = images or ["embedded photo"]
    boxes = answer.boxes(0.5).tolist()
    rows = []
    for i, source in enumerate(sources):
        row = {"image": source, "label": int(answer.labels[i]), "name": answer.label_names[i]}
        row["probability"] = float(answer.probability[i])
        if answer.kept is not None and answer.dropped is not None:
            row |= {"kept": float(answer.kept[i]), "dropped": float(answer.dropped[i])}
        row |= {
            "area": float(answer.area[i]),
            "box": boxes[i],
            "overlay": str(output / f"overlay-{i:04}.png"),
        }
        rows.append(row)
    return {
        "images": rows,
        "seconds": round(seconds, 3),
        "out": str(output),
        "provenance": answer.provenance,
    }


def table(answer: "Explanation", images: list[str] | None, output: Path, seconds: float) -> None:
    """The same for people, on stdout."""
    from rich.table import Table

    grid = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("image", "class", "probability", "kept", "dropped", "area"):
        grid.add_column(
            name, justify="left" if name in ("image", "class") else "right", overflow="fold"
        )
    rows = facts(answer, images, output, seconds)["images"]
    for row in rows:
        numbers = [
            f"{row[key]:.1%}" if key in row else "-"
            for key in ("probability", "kept", "dropped", "area")
        ]
        grid.add_row(
            Path(row["image"]).name, f"{row['name'].split(',')[0]} ({row['label']})", *numbers
        )
    to = console()
    to.print(grid)
    to.print(
        "[dim]kept: probability with only the mask shown; dropped: with the mask replaced; area: "
        "the mask's share[/dim]"
    )
    overlays = (
        rows[0]["overlay"]
        if len(rows) == 1
        else f"{rows[0]['overlay']} ... {Path(rows[-1]['overlay']).name}"
    )
    to.print(f"{overlays} written in {seconds:.1f} s", soft_wrap=True)


def console(*, stderr: bool = False, quiet: bool = False) -> "Console":
    """Of rich, without colours for numbers."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, soft_wrap=False, highlight=False)


def complain(message: str) -> None:
    """One line on stderr."""
    import typer

    typer.echo(" ".join(message.split()), err=True)


def warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line on stderr; takes the place of `warnings.showwarning`."""
    complain(f"Warning: {message}")
