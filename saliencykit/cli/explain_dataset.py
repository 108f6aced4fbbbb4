"""The command explain, given a folder or a table: parses, calls explain_dataset, and prints."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from saliencykit.cli.console import complain, console, counting_bar
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.cli.options import going_on, leads
from saliencykit.core.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from saliencykit.storage.explanation_rows import ExplainedRow
    from saliencykit.storage.run_summary import Summary
    from saliencykit.storage.saved_explanations import SavedExplanations

_REASONS = 5
_PANEL = "For a folder or a CSV file"

Labels: TypeAlias = Annotated[
    Path | None, typer.Option(help="CSV file of labels by picture.", rich_help_panel=_PANEL)
]
Limit: TypeAlias = Annotated[
    int | None, typer.Option(help="At most so many pictures.", min=1, rich_help_panel=_PANEL)
]
Batch: TypeAlias = Annotated[
    int, typer.Option(help="Pictures at once.", min=1, rich_help_panel=_PANEL)
]
MapPrecision: TypeAlias = Annotated[
    str, typer.Option(help="Of the stored maps: uint8 or float16.", rich_help_panel=_PANEL)
]
Overlays: TypeAlias = Annotated[
    int, typer.Option(help="Overlays of so many pictures.", min=0, rich_help_panel=_PANEL)
]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(help="Threads that read pictures.", min=0, rich_help_panel=_PANEL)
]
Resume: TypeAlias = Annotated[
    bool, typer.Option(help="Go on from the rows in the directory.", rich_help_panel=_PANEL)
]


def is_dataset(images: Sequence[str] | None) -> bool:
    """Is what the command was given a folder, a CSV file or a data set's name, and no picture?

    Raises:
        InputError: It is one of several things.
    """
    sets = [
        text
        for text in images or ()
        if text.startswith(("voc:", "coco:"))
        or text.lower().endswith(".csv")
        or Path(text).is_dir()
    ]
    if sets and len(images or ()) > 1:
        raise InputError(
            f"{sets[0]!r} is a data set: give it alone, each to a directory of its own, or "
            "pictures alone."
        )
    return bool(sets)


def explain_folder(
    data: str,
    model: str,
    output: Path,
    *,
    device: str,
    as_json: bool,
    labels: Path | None,
    label: str | None,
    **options: Any,
) -> None:
    """Explain a data set into a directory; print what the rows say together."""
    from saliencykit.explanation.dataset_explainer import explain_dataset as door
    from saliencykit.storage.run_summary import summarize

    use_idle_cores()
    started = time.perf_counter()
    leading = leads()
    with (
        going_on(f"the rows in {output}", (output / "manifest.json").exists),
        dataset_bar(console(stderr=True, quiet=not leading or as_json)) as on_row,
    ):
        saved = door(
            black_box_on_device(model, device),
            data,
            output_dir=output,
            labels=labels,
            label=label,
            on_row=on_row,
            **options,
        )
    if not leading:
        return
    summary, seconds = summarize(saved.rows()), time.perf_counter() - started
    if as_json:
        columns = {
            name: None if values[0] != values[0] else values[0]
            for name, values in summary.columns.items()
        }
        facts = {
            "out": str(output),
            "pictures": summary.pictures,
            "explained": summary.explained,
            "means": columns,
        }
        typed = {reason: count for reason, (count, _) in summary.reasons.items()}
        typer.echo(json.dumps(facts | {"reasons": typed, "seconds": round(seconds, 3)}, indent=1))
    else:
        summary_table(saved, summary, seconds, console())
    if summary.pictures and not summary.explained:
        complain("not one picture could be explained; the reasons stand in the rows.")
        raise typer.Exit(3)


@contextmanager
def dataset_bar(to: "Console") -> "Iterator[Callable[[ExplainedRow, int, int | None], None]]":
    """A bar of finished pictures, with those that failed."""
    failed = 0

    with counting_bar(to, "pictures", every=1000) as advance:

        def on_row(row: "ExplainedRow", done: int, total: int | None) -> None:
            nonlocal failed
            failed += row.reason is not None
            advance(done, total, f"explaining, {failed} failed" if failed else "explaining")

        yield on_row


def summary_table(
    saved: "SavedExplanations", summary: "Summary", seconds: float, to: "Console"
) -> None:
    """Mean and quartiles of each number; what has no map and why; what to do next."""
    from rich.markup import escape
    from rich.table import Table

    grid = Table("", "mean", "quartiles", box=None, header_style="bold", pad_edge=False)
    for name in ("probability", "kept", "dropped", "area"):
        mean, low, middle, high = summary.columns[name]
        if mean == mean:
            grid.add_row(name, f"{mean:.1%}", f"[dim]{low:.1%} {middle:.1%} {high:.1%}[/dim]")
    to.print(f"{summary.explained} of {summary.pictures} pictures explained")
    to.print(grid)
    for reason, (count, names) in list(summary.reasons.items())[:_REASONS]:
        shown = ", ".join(names[:2]) + (f" and {count - 2} more" if count > 2 else "")
        to.print(f"no map of {escape(shown)}: {escape(reason)}", soft_wrap=True)
    if len(summary.reasons) > _REASONS:
        to.print(
            f"... and {len(summary.reasons) - _REASONS} more reasons, in the rows", soft_wrap=True
        )
    folder = saved.folder
    to.print(
        f"{folder / 'table.csv'}, {folder / 'rows.jsonl'} and the maps written in {seconds:.0f} s",
        soft_wrap=True,
    )
    to.print(
        f"now: saliencykit report {folder}; saliencykit evaluate --data DATA --masker "
        f"stored:{folder}",
        soft_wrap=True,
    )
