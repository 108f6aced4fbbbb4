"""The command explain for a data set."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from saliencykit.cli import workflows
from saliencykit.cli.console import (
    Update,
    complain,
    emit_json,
    number,
    print_table,
    progress,
    say,
)
from saliencykit.cli.options import as_label, is_main_process, resumable
from saliencykit.core.errors import InputError

_MAX_REASONS = 5
_FEW = 3  # images in a line


def is_dataset(images: Sequence[str] | None) -> bool:
    """Whether the argument is a directory, a CSV file or a data set's name, and not an image.

    Raises:
        InputError: A data set is given together with something else.
    """
    sets = [text for text in images or () if workflows.is_data_set(text)]
    if sets and len(images or ()) > 1:
        raise InputError(
            f"{sets[0]!r} is a data set and must be the only argument; explain each data set into "
            "its own --output, and quote a pattern such as 'shards/*.tar'."
        )
    return bool(sets)


def explain_dataset(
    data: str,
    engine: str | None = None,
    address: str | None = None,
    *,
    model: str,
    against: str | None,
    output: Path,
    device: str,
    as_json: bool,
    pixel_range: tuple[float, float] | None,
    **options: Any,
) -> None:
    """Explain a data set into a directory, and print a summary."""
    workflows.use_idle_cores()
    started = time.perf_counter()
    main = is_main_process()
    load = partial(_black_box, model, device, pixel_range, against)
    with (
        resumable(f"the rows in {output}", lambda: any((output / "blocks").glob("*"))),
        progress(
            "explaining", unit="shards" if engine else "images", quiet=not main or as_json
        ) as update,
    ):
        if engine is None:
            saved = _explain_here(load(), data, update, output_dir=output, **options)
        else:
            options |= {"address": address, "gpus": device not in ("cpu", "mps")}
            saved = _explain_on(engine, load, data, update, output_dir=output, **options)
    if not main:
        return
    summary, seconds = workflows.summarize(saved.rows()), time.perf_counter() - started
    if as_json:
        facts = {"output": str(output)} | summary.facts()
        emit_json(facts | {"seconds": round(seconds, 3)})
    else:
        print_summary(summary, scores=saved.manifest.get("output") == "score")
        if options["shard"] is not None:
            say(f"wrote rows and masks to {output / 'blocks'} in {seconds:.0f} s")
            say(f"next, when all shards are done: saliencykit merge {output}")
            return
        say(f"wrote table.csv, rows and masks to {output} in {seconds:.0f} s")
        say(f"next: saliencykit report {output}")
        say(f"      saliencykit evaluate --data DATA --masker stored:{output}")
    if summary.images and not summary.explained:
        complain(f"No image could be explained; {output / 'table.csv'} says why.")
        raise typer.Exit(3)


def _black_box(
    model: str, device: str, pixel_range: tuple[float, float] | None, against: str | None
) -> "workflows.BlackBox":
    black_box = workflows.black_box_on_device(model, device, pixel_range)
    target = workflows.contrast(as_label(against))
    return workflows.with_target(black_box, target) if target else black_box


def _explain_here(
    black_box: "workflows.BlackBox", data: str, update: Update, **options: Any
) -> "workflows.SavedExplanations":
    failed = 0

    def on_row(row: "workflows.ExplainedRow", done: int, total: int | None) -> None:
        nonlocal failed
        failed += row.failure is not None
        update(done, total, note=f"{failed} failed" if failed else "")

    return workflows.explain_dataset(black_box, data, on_row=on_row, **options)


def _explain_on(
    engine: str,
    load: "Callable[[], workflows.BlackBox]",
    data: str,
    update: Update,
    *,
    resume: bool,
    shard: str | None,
    **options: Any,
) -> "workflows.SavedExplanations":
    if shard is not None or not resume:
        raise InputError(
            "--engine makes the shards itself, and resumes; leave --shard out, and in place of "
            "--no-resume delete the directory."
        )

    def on_shard(done: int, total: int, images: int, failed: int) -> None:
        note = f"{images} images" + (f", {failed} failed" if failed else "")
        update(done, total, note=note)

    update(0, note="connecting")
    return workflows.explain_on(engine, load, data, on_shard=on_shard, **options)


def print_summary(summary: "workflows.Summary", *, scores: bool = False) -> None:
    """Print mean and quartiles of each number, and why images have no map."""
    say(f"{summary.explained} of {summary.images} images explained")
    rows = [
        [name, texts[0], f"[dim]{' '.join(texts[1:])}[/dim]"]
        for name, values in summary.columns.items()
        if values[0] == values[0] and name != "seconds"
        for texts in [[number(value, scores and name != "area") for value in values]]
    ]
    print_table(("", "mean", "quartiles"), rows)
    for verdict, count in summary.verdicts.items():
        say(f"{count} {verdict}: {verdict.words}")
    count, some = summary.mispredicted
    if count:
        wrong = ", ".join(f"{row.name} ({row.predicted_text})" for row in some[:_FEW])
        wrong += f" and {count - _FEW} more" if count > _FEW else ""
        say(f"{count} where the model predicts another class: {escape(wrong)}")
    for reason, (count, names) in list(summary.failures.items())[:_MAX_REASONS]:
        more = f" and {count - 2} more" if count > 2 else ""
        say(f"no map for {', '.join(names[:2])}{more}: {reason}")
    if len(summary.failures) > _MAX_REASONS:
        say(f"... and {len(summary.failures) - _MAX_REASONS} more reasons, in table.csv")
