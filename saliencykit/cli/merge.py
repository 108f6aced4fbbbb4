"""The command merge: the shards of one run become one directory."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import say
from saliencykit.cli.explain_dataset import print_summary


def merge(run: Annotated[Path, typer.Argument()]) -> None:
    """Merge the shards of explain --shard; if some are missing, print their commands.

    Args:
        run: The --output of explain --shard.
    """
    saved = workflows.merge_shards(run)
    print_summary(workflows.summarize(saved.rows()), scores=saved.manifest.get("output") == "score")
    say(f"next: saliencykit report {run}")
