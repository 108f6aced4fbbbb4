"""The command report."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import say


def report(run: Annotated[Path, typer.Argument()], output: Path | None = None) -> None:
    """Write a self-contained HTML page: images with masks, curves, tables, settings.

    Args:
        run: Directory of an evaluation, an explained data set or an explanation.
        output: The page. Default: report.html in the directory.
    """
    written = workflows.write_report(_load(run), run / "report.html" if output is None else output)
    size = written.stat().st_size
    say(f"wrote {written}, {f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.0f} kB'}")


def _load(run: Path) -> "workflows.Explanation | workflows.SavedExplanations | workflows.Scores":
    if workflows.is_saved(run):
        return workflows.SavedExplanations.load(run)
    if (run / "manifest.json").exists() and not (run / "settings.json").exists():
        return workflows.Explanation.load(run)
    return workflows.Scores.load(run)
