"""The command report."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli.console import say
from saliencykit.evaluation.scores import Scores
from saliencykit.explanation.result import Explanation
from saliencykit.reports.report_files import write_report
from saliencykit.storage.saved_explanations import SavedExplanations, is_saved


def report(
    run: Annotated[
        Path,
        typer.Argument(help="Directory of an evaluation, an explained data set or an explanation."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The page. Default: report.html in the directory.")
    ] = None,
) -> None:
    """Write a self-contained HTML page: images with masks, curves, tables, settings."""
    written = write_report(_load(run), run / "report.html" if output is None else output)
    size = written.stat().st_size
    say(f"wrote {written}, {f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'}")


def _load(run: Path) -> Explanation | SavedExplanations | Scores:
    if is_saved(run):
        return SavedExplanations.load(run)
    if (run / "manifest.json").exists() and not (run / "settings.json").exists():
        return Explanation.load(run)
    return Scores.load(run)
