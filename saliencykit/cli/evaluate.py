"""The commands evaluate, compare and report: each parses, calls one door, and prints."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli.console import complain, console
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.cli.options import AsJson, Device, Model, Seed, going_on, leads
from saliencykit.core.errors import InputError

DEFAULT_METRICS = (
    "insertion",
    "deletion",
    "area-curves",
    "saliency-score",
    "localization",
    "pointing-game",
)


def evaluate(
    data: Annotated[
        str, typer.Option(help="A folder, a CSV file, voc:FOLDER or coco:FOLDER,annotations=FILE.")
    ],
    model: Model = "demo",
    masker: Annotated[
        list[str] | None,
        typer.Option(
            help="A method, e.g. rise:samples=500, or NAME=METHOD; several times. Default: as "
            "explain."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric, e.g. insertion; several times. Default: the usual."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The run directory; started again, it goes on from there.")
    ] = Path("run"),
    labels: Annotated[Path | None, typer.Option(help="CSV file of labels by picture.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="Folder of XML files with boxes, or a LOC_val_solution.csv.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(help="At most so many pictures.", min=1)] = None,
    baselines: Annotated[
        bool, typer.Option(help="Centre box, whole image, random map and Grad-CAM too.")
    ] = True,
    report_images: Annotated[
        int, typer.Option(help="Pictures whose masks are kept for the report.", min=0)
    ] = 12,
    batch_size: Annotated[int, typer.Option(help="Pictures at once.", min=1)] = 16,
    device: Device = "auto",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option(help="Go on from the rows in the run directory.")] = True,
    as_json: AsJson = False,
) -> None:
    """Judge methods by metrics on pictures, beside baselines; print means with 95 % intervals,
    write rows and table.
    """
    from saliencykit.cli.score_tables import evaluating_bar, scores_table
    from saliencykit.evaluation.evaluate_maskers import evaluate as door
    from saliencykit.evaluation.scores import as_objects
    from saliencykit.registry.coerce import trained_masker
    from saliencykit.registry.manager import registry

    use_idle_cores()
    started = time.perf_counter()
    leading = leads()
    black_box = black_box_on_device(model, device)
    known = {full.split("/", 1)[1] for full in registry().names("metric")}
    metrics = metric or [name for name in DEFAULT_METRICS if name in known]
    trained = None if masker else trained_masker(black_box)
    maskers = (
        {model: trained}
        if trained is not None
        else _named(masker or ["iterative" if black_box.differentiable else "rise"])
    )
    with (
        going_on(f"the rows in {output}", (output / "settings.json").exists),
        evaluating_bar(console(stderr=True, quiet=not leading or as_json)) as on_row,
    ):
        scores = door(
            black_box,
            maskers,
            metrics,
            data,
            output_dir=output,
            seed=seed,
            batch_size=batch_size,
            baselines=baselines,
            resume=resume,
            labels=labels,
            boxes=boxes,
            max_images=max_images,
            report_images=report_images,
            on_row=on_row,
        )
    if not leading:
        return
    if as_json:
        missing = [
            {"masker": who, "reason": reason, "rows": count}
            for (who, reason), count in scores.reasons().items()
        ]
        typer.echo(
            json.dumps(
                {"out": str(output), "table": as_objects(scores.table()), "missing": missing},
                indent=1,
            )
        )
    else:
        to = console()
        scores_table(scores, to)
        to.print(
            f"{output / 'table.csv'} and {output / 'rows.jsonl'} written in "
            f"{time.perf_counter() - started:.0f} s",
            soft_wrap=True,
        )
        to.print(
            f"now: saliencykit compare {output} --baseline {scores.maskers[-1]}; saliencykit report "
            f"{output}",
            soft_wrap=True,
        )
    if scores.rows and all(row.reason is not None for row in scores.rows):
        complain("not one picture could be judged; the reasons stand in the rows.")
        raise typer.Exit(3)


def compare(
    run: Annotated[Path, typer.Argument(help="The directory of an evaluation.")],
    baseline: Annotated[
        str,
        typer.Option(
            help="The masker that all others are compared with, by its name in the table."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Compare methods picture by picture: differences with 95 % intervals, far surer than two
    intervals side by side.
    """
    from saliencykit.cli.score_tables import comparison_table
    from saliencykit.evaluation.scores import Scores, as_objects

    scores = Scores.load(run)
    differences = scores.compare(baseline)
    if as_json:
        typer.echo(json.dumps(as_objects(differences), indent=1))
    else:
        comparison_table(scores, baseline, differences, console())


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="The directory of an evaluation, of an explained folder, or of an explanation."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The page; default: report.html in the directory.")
    ] = None,
) -> None:
    """Write one HTML page that opens from disk and can be mailed: pictures and masks, curves, the
    table, what the numbers mean.
    """
    from saliencykit.evaluation.scores import Scores
    from saliencykit.explanation.result import Explanation
    from saliencykit.reports.report_files import write_report
    from saliencykit.storage.saved_explanations import SavedExplanations, is_saved

    path = run / "report.html" if output is None else output
    explained = (run / "manifest.json").exists() and not (run / "settings.json").exists()
    kept = (
        SavedExplanations.load(run)
        if is_saved(run)
        else Explanation.load(run)
        if explained
        else Scores.load(run)
    )
    written = write_report(kept, path)
    size = written.stat().st_size
    console().print(
        f"{written} written, {f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'}",
        soft_wrap=True,
    )


def _named(texts: list[str]) -> dict[str, str]:
    """`NAME=METHOD` by its name, a text or a trained file by its own."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, method = text.partition("=")
        if not equals or ":" in name:
            name, method = Path(text).stem if text.endswith(".safetensors") else text, text
        if not name or not method or name in named:
            raise InputError(f"--masker {text!r}: write METHOD or NAME=METHOD, each name once.")
        named[name] = method
    return named
