"""The command sanity-check."""

import time
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import emit_json, print_table, progress, say
from saliencykit.cli.options import check_output_file

_VERDICTS = {
    True: "[green]pass[/green]",
    False: "[bold red]FAIL[/bold red]",
    None: "[yellow]unclear[/yellow]",
}


def sanity_check(
    data: str,
    model: str = "demo",
    masker: str | None = None,
    check: list[str] | None = None,
    randomize: str = "head",
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    max_images: Annotated[int, typer.Option(min=2)] = 300,
    batch_size: int = 16,
    pixel_range: tuple[float, float] | None = None,
    device: str = "auto",
    seed: int = 0,
    output: Path | None = None,
    as_json: bool = False,
) -> None:
    """Check that masks depend on the model and the class, and do not merely encode the class.

    Args:
        masker: Masker, e.g. grad-cam. Default: the one trained for this model.
        check: wrong-label, class-leakage, model-randomization; repeatable. Default: all that
            apply.
        randomize: What is randomized in a copy of the model: head or weights.
        steps: Steps of each training on a randomized model. Default: as in fit.
        max_images: Maximum number of images, evenly spaced.
        output: JSON file for all numbers and their intervals.
    """
    if output is not None:
        check_output_file(output)
    workflows.use_idle_cores()
    started = time.perf_counter()
    with progress("preparing", quiet=as_json) as update:
        report = workflows.sanity_checks(
            workflows.black_box_on_device(model, device, pixel_range),
            masker,
            data,
            checks=check,
            randomize=cast(Any, randomize),
            steps=steps,
            max_images=max_images,
            seed=seed,
            batch_size=batch_size,
            on_stage=lambda stage, done, total: update(done, total, stage),
        )
    if output is not None:
        report.to_json(output)
    if as_json:
        emit_json(report.to_dict())
        return
    print_checks(report)
    what = "finished" if output is None else f"wrote {output}"
    say(f"{what} in {time.perf_counter() - started:.0f} s")


def print_checks(report: "workflows.SanityReport") -> None:
    """Print the figures and verdict of each check, its rule, and what is missing and why."""
    rows = []
    for each in report.results:
        heads = [(each.name, _VERDICTS[each.passed])]
        for what, figure in _figures(each):
            interval = f"[dim]{figure.low:.3f} {figure.high:.3f}[/dim]"
            head = heads.pop() if heads else ("", "")
            rows.append([*head, what, f"{figure.mean:.3f}", interval, str(figure.n)])
        rows.append([""] * 6)
    say(f"{report.masker} on {report.num_images} images")
    print_table(("check", "verdict", "figure", "mean", "95% CI", "n"), rows, left=3)
    for each in report.results:
        say(f"{each.name} passes if {each.rule}", dim=True)
        if getattr(each, "validated", None) not in (None, (True, True)):
            say(f"{each.name}: a trained masker failed held-out validation; train longer")
    for name, reason in report.skipped.items():
        say(f"{name} was skipped: {reason}")
    _print_missing("image", "could not be used", report.missing)
    for each in report.results:
        _print_missing("mask", f"missing in {each.name}", each.missing)


def _print_missing(thing: str, what: str, reasons: Any) -> None:
    for reason, count in reasons.items():
        say(f"{count} {thing}{'s' if count > 1 else ''} {what}: {reason}")


def _figures(found: "workflows.CheckResult") -> "list[tuple[str, workflows.Estimate]]":
    """The figures of a check, with a title each."""
    if isinstance(found, workflows.WrongLabel):
        return [
            ("area, own class", found.area),
            ("area, another class", found.other_area),
            ("ratio of the areas", found.ratio),
            ("correlation of both masks", found.correlation),
        ]
    if isinstance(found, workflows.ClassLeakage):
        control = "from random masks with its values, chance {:.2f}"
        rows = [
            ("absent class predicted from the mask", found.other.accuracy),
            (control.format(found.other.chance), found.other.control),
            (f"difference, allowed {found.allowed:.2f}", found.other.difference),
        ]
        if found.own is not None:
            rows.append(("own class predicted from the mask", found.own.accuracy))
            rows.append((control.format(found.own.chance), found.own.control))
        return rows
    if not isinstance(found, workflows.ModelRandomization):
        return []
    how = f"maskers trained for {found.steps} steps" if found.retrained else "the same masker"
    return [
        (f"correlation with a second seed, {how}", found.same),
        (f"with the model's {found.randomize} randomized", found.random),
        ("difference", found.difference),
        ("overlap of the top 20% of pixels, second seed", found.same_overlap),
        ("overlap of the top 20% of pixels, randomized", found.random_overlap),
    ]
