"""The command compare."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import emit_json
from saliencykit.cli.score_tables import print_comparison
from saliencykit.evaluation.score_summary import as_objects


def compare(run: Annotated[Path, typer.Argument()], baseline: str, as_json: bool = False) -> None:
    """Compare maskers image by image: paired differences with 95% confidence intervals.

    Paired intervals are much narrower than the intervals of two means.

    Args:
        run: Directory of an evaluation.
        baseline: Name of the masker that the others are compared with.
    """
    scores = workflows.Scores.load(run)
    differences = scores.compare(baseline)
    if as_json:
        emit_json(as_objects(differences))
    else:
        print_comparison(scores, baseline, differences)
