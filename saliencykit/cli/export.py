"""The command export: the rows and masks of a run in another format."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import say


def export(
    run: Annotated[Path, typer.Argument()],
    to: str,
    output: Path | None = None,
    threshold: float = 0.5,
) -> None:
    """Write the rows and masks of a run as Parquet, CSV, NumPy arrays or COCO run lengths.

    Args:
        run: The --output of explain over a directory.
        to: parquet, csv, npz or coco-rle.
        output: File, or directory for parquet. Default: export.* in the run.
        threshold: For coco-rle: a pixel belongs to the region from this value on.
    """
    say(f"wrote {workflows.export_run(run, to, output=output, threshold=threshold)}")
