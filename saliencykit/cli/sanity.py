"""The command sanity: parses, calls sanity_checks, and prints a table of verdicts."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from saliencykit.cli.console import console
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.cli.options import AsJson, Device, Model, Seed
from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import writable

if TYPE_CHECKING:
    from rich.console import Console

    from saliencykit.sanity.intervals import Figure
    from saliencykit.sanity.run_checks import MaskerOutput, SanityReport

_EVERY = 10  # seconds between lines without a terminal


def sanity(
    data: Annotated[
        str,
        typer.Option(
            help="Pictures: a folder, a CSV file, voc:FOLDER or coco:FOLDER,annotations=FILE."
        ),
    ],
    model: Model = "demo",
    masker: Annotated[
        str | None,
        typer.Option(
            help="A method, e.g. grad-cam, or a trained masker's file. Default: the model's own."
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="wrong-label, encoding or randomised-box; several times. Default: all that apply."
        ),
    ] = None,
    randomize: Annotated[
        str, typer.Option(help="What randomised-box makes random in a copy: head or weights.")
    ] = "head",
    steps: Annotated[
        int | None,
        typer.Option(help="Of each training for randomised-box; default: as fit.", min=1),
    ] = None,
    max_images: Annotated[
        int, typer.Option(help="At most so many pictures, evenly spaced.", min=2)
    ] = 300,
    batch_size: Annotated[int, typer.Option(help="Pictures at once.", min=1)] = 16,
    device: Device = "auto",
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option(help="Write every figure with its interval to this JSON file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that masks are about the model and the class: wrong label, class written into the mask,
    randomised model.
    """
    from saliencykit.sanity.run_checks import sanity_checks

    if output is not None:
        if output.is_dir():
            raise InputError(
                f"--output is a file, such as sanity.json; {str(output)!r} is a directory."
            )
        writable(output.parent)
    use_idle_cores()
    started = time.perf_counter()
    black_box = black_box_on_device(model, device)
    with sanity_bar(console(stderr=True, quiet=as_json)) as on_progress:
        report = sanity_checks(
            black_box,
            masker,
            data,
            checks=check,
            randomize=cast(Any, randomize),
            steps=steps,
            max_images=max_images,
            seed=seed,
            batch_size=batch_size,
            on_progress=on_progress,
        )
    if output is not None:
        report.to_json(output)
    if as_json:
        typer.echo(json.dumps(report.as_facts(), indent=1))
        return
    to = console()
    sanity_table(report, to)
    written = f"{output} written in" if output is not None else "done in"
    to.print(f"{written} {time.perf_counter() - started:.0f} s", soft_wrap=True)


@contextmanager
def sanity_bar(to: "Console") -> "Iterator[Callable[[str, int, int], None]]":
    """A bar of what is done now, with the time left; without a terminal, a line when something is
    done and now and then before.
    """
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
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=to, transient=True, disable=not to.is_terminal)
    task = progress.add_task("getting ready", total=None)
    now, said = "", time.monotonic()

    def on_progress(what: str, done: int, of: int) -> None:
        nonlocal now, said
        if what != now:
            now = what
            progress.reset(task, total=of, description=what)
        progress.update(task, completed=done, total=of)
        if not to.is_terminal and (done == of or time.monotonic() - said > _EVERY):
            said = time.monotonic()
            to.print(f"{what}: {done} of {of}", soft_wrap=True)

    with progress:
        yield on_progress


def sanity_table(report: "SanityReport", to: "Console") -> None:
    """A row for each figure; then what the checks ask for, and what is missing and why."""
    from rich.markup import escape
    from rich.table import Table

    words = {
        True: "[green]pass[/green]",
        False: "[bold red]FAIL[/bold red]",
        None: "[yellow]unclear[/yellow]",
    }
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("check", "verdict", "figure", "mean", "95 %", "n"):
        grid.add_column(
            column,
            justify="right" if column in ("mean", "95 %", "n") else "left",
            no_wrap=column != "figure",
        )
    for number, each in enumerate(report.found):
        if number:
            grid.add_row()
        for place, (what, figure) in enumerate(_rows(each)):
            first = (each.name, words[each.passed]) if not place else ("", "")
            grid.add_row(
                *first,
                what,
                f"{figure.mean:.3f}",
                f"[dim]{figure.low:.3f} {figure.high:.3f}[/dim]",
                str(figure.n),
            )
    to.print(f"{escape(report.masker)} on {report.pictures} pictures", soft_wrap=True)
    to.print(grid)
    to.print()
    for each in report.found:
        to.print(f"[dim]{each.name} passes if {escape(each.rule)}[/dim]", soft_wrap=True)
        if getattr(each, "gates", None) not in (None, (True, True)):
            to.print(
                f"{each.name}: a masker that was trained for it missed its gate; more steps or "
                "pictures help",
                soft_wrap=True,
            )
    for name, reason in report.left_out.items():
        to.print(f"{name} was left out: {escape(reason)}", soft_wrap=True)
    lost = [("pictures", "could not be used", report.missing)]
    lost += [("masks", f"missing in {each.name}", each.missing) for each in report.found]
    for things, what, reasons in lost:
        for reason, count in reasons.items():
            to.print(
                f"{count} {things if count > 1 else things[:-1]} {what}: {escape(reason)}",
                soft_wrap=True,
            )


def _rows(found: "MaskerOutput") -> list[tuple[str, "Figure"]]:
    """The figures of a check in words."""
    from saliencykit.sanity.class_leakage_check import ClassLeakage
    from saliencykit.sanity.wrong_label_check import WrongLabel

    if isinstance(found, WrongLabel):
        return [
            ("area, own class", found.area),
            ("area, another class", found.other_area),
            ("ratio of the areas", found.ratio),
            ("correlation of both masks", found.correlation),
        ]
    if isinstance(found, ClassLeakage):
        rows = [
            ("absent class read from the mask", found.other.accuracy),
            (
                f"from random masks of its values, chance {found.other.chance:.2f}",
                found.other.control,
            ),
            (f"difference, allowed {found.allowed:.2f}", found.other.difference),
        ]
        if found.own is not None:
            rows += [
                ("own class read from the mask", found.own.accuracy),
                (
                    f"from random masks of its values, chance {found.own.chance:.2f}",
                    found.own.control,
                ),
            ]
        return rows
    how = f"maskers trained for {found.steps} steps" if found.retrained else "the same masker"
    return [
        (f"correlation with a second seed, {how}", found.same),
        (f"with the model's {found.what} randomised", found.random),
        ("difference", found.difference),
        ("overlap of the best fifth, second seed", found.same_overlap),
        ("overlap of the best fifth, randomised", found.random_overlap),
    ]
