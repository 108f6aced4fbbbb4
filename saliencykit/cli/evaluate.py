"""The command evaluate."""

import time
from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import complain, emit_json, progress, say
from saliencykit.cli.options import is_main_process, resumable
from saliencykit.cli.score_tables import print_by_class, print_scores
from saliencykit.core.errors import InputError
from saliencykit.evaluation.score_summary import as_objects

DEFAULT_METRICS = (
    *("insertion", "deletion", "area-curves", "saliency-score"),
    *("localization", "pointing-game"),
)


def evaluate(
    data: str,
    model: str = "demo",
    masker: list[str] | None = None,
    metric: list[str] | None = None,
    output: Path = Path("run"),
    labels: Path | None = None,
    boxes: Path | None = None,
    inside: Path | None = None,
    by_class: bool = False,
    max_images: int | None = None,
    baselines: bool = True,
    report_images: Annotated[int, typer.Option(min=0)] = 12,
    batch_size: int = 16,
    pixel_range: tuple[float, float] | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = True,
    as_json: bool = False,
) -> None:
    """Score maskers on a data set, with baselines and 95% confidence intervals.

    Args:
        masker: Masker, e.g. rise:samples=500, or NAME=MASKER; repeatable. Default: as explain.
        metric: Metric; repeatable. Default: insertion, deletion, area-curves, saliency-score,
            localization, pointing-game.
        output: Run directory.
        boxes: Bounding boxes: directory of XML files, or a LOC_val_solution.csv.
        inside: Directory of images named like the data's, white where the evidence should be:
            energy-pointing-game is then the share of the mask inside.
        by_class: Also print the first score of each metric by class.
        baselines: Also score center box, whole image, random map and Grad-CAM.
        report_images: Number of images whose masks are kept for the report.
    """
    workflows.use_idle_cores()
    started = time.perf_counter()
    main = is_main_process()
    black_box = workflows.black_box_on_device(model, device, pixel_range)
    with (
        resumable(f"the rows in {output}", lambda: any(output.glob("rows*.jsonl"))),
        progress("preparing", unit="rows", quiet=not main or as_json) as update,
    ):
        scores = workflows.evaluate(
            black_box,
            named_maskers(masker) if masker else _default_masker(black_box, model),
            metric or DEFAULT_METRICS,
            data,
            output_dir=output,
            seed=seed,
            batch_size=batch_size,
            baselines=baselines,
            resume=resume,
            labels=labels,
            boxes=boxes,
            inside=inside,
            max_images=max_images,
            report_images=report_images,
            on_row=lambda row, done, total: update(done, total, "evaluating", row.masker),
        )
    if main:
        _print(scores, output, time.perf_counter() - started, as_json, by_class)


def named_maskers(texts: list[str]) -> dict[str, str]:
    """Maskers by name: that of `NAME=MASKER`, a file's stem, or the text itself.

    Raises:
        InputError: A name is missing or given twice.

    Example:
        >>> named_maskers(["ours=rise:samples=9", "cam", "mine.safetensors"])
        {'ours': 'rise:samples=9', 'cam': 'cam', 'mine': 'mine.safetensors'}
    """
    named: dict[str, str] = {}
    for text in texts:
        name, equals, masker = text.partition("=")
        if not equals or ":" in name:
            name, masker = Path(text).stem if text.endswith(".safetensors") else text, text
        if not name or not masker or name in named:
            raise InputError(f"--masker {text!r}: write MASKER or NAME=MASKER, each name once.")
        named[name] = masker
    return named


def _default_masker(
    black_box: "workflows.BlackBox", model: str
) -> "dict[str, workflows.Masker | str]":
    trained = workflows.trained_masker(black_box)
    if trained is not None:
        return {model: trained}
    name = "iterative" if black_box.differentiable else "rise"
    return {name: name}


def _print(
    scores: "workflows.Scores", output: Path, seconds: float, as_json: bool, by_class: bool
) -> None:
    if as_json:
        missing = [
            {"masker": masker, "failure": failure, "rows": count}
            for (masker, failure), count in scores.failures().items()
        ]
        table = as_objects(scores.table())
        answer = {"output": str(output), "table": table, "missing": missing}
        if by_class:
            lines = [line for score in scores.main for line in scores.by_class(score)]
            answer["by_class"] = as_objects(lines)
        emit_json(answer)
    else:
        print_scores(scores)
        if by_class:
            print_by_class(scores)
        say(f"wrote {output / 'table.csv'} and {output / 'rows.jsonl'} in {seconds:.0f} s")
        steps = [f"saliencykit report {output}"]
        if len(scores.maskers) > 1:
            steps.insert(0, f"saliencykit compare {output} --baseline {scores.maskers[-1]}")
        say("next: " + "\n      ".join(steps))
    if scores.rows and all(row.failure is not None for row in scores.rows):
        complain(f"No image could be evaluated; {output / 'rows.jsonl'} says why.")
        raise typer.Exit(3)
