"""The commands plugins list and plugins new."""

import os
import shlex
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from saliencykit.cli import workflows
from saliencykit.cli.command_options import add_command
from saliencykit.cli.console import console, print_table, say
from saliencykit.core.visible_text import visible

_WIDTH = 200  # columns, where there is no terminal

app = typer.Typer(
    help="List registered parts, or create a plugin.", rich_markup_mode="rich", no_args_is_help=True
)


@app.command("list")
def list_plugins() -> None:
    """List every registered name, and plugins that failed to load with the reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # failures are listed below
        named = {kind: workflows.registry().names(kind) for kind in workflows.KINDS}
    names = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    for title in ("kind", "name"):
        names.add_column(title, no_wrap=True)
    names.add_column("description", no_wrap=True, overflow="ellipsis", ratio=1)
    for kind, mapping in named.items():
        for full, factory in mapping.items():
            names.add_row(kind.replace("_", " "), full, escape(visible(_first_sentence(factory))))
    to = console()
    if not to.is_terminal and "COLUMNS" not in os.environ:
        to.width = _WIDTH
    to.print(names)
    say("")
    states = [
        [
            each.name,
            each.origin,
            f"[red]not loaded:[/red] {escape(each.failure)}" if each.failure else "works",
        ]
        for each in workflows.registry().plugins
    ]
    print_table(("plugin", "from", "state"), states, left=3)


def new(name: Annotated[str, typer.Argument()], into: Path = Path()) -> None:
    """Create a plugin package from a template: one example of each kind of part, with tests.

    Args:
        name: Name of the package, e.g. my-plugin.
        into: Directory to create it in.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a broken plugin has nothing to do with a new one
        made = workflows.new_plugin(name, into)
    directory = shlex.quote(str(made.folder))
    count = sum(path.is_file() for path in made.folder.rglob("*"))
    say(f"wrote {made.folder}: {count} files, an example of each kind of part, and tests. Next:")
    is_path = made.folder.is_absolute() or directory.startswith(".")
    say(f"  pip install -e {directory if is_path else f'./{directory}'}")
    say(f"  python -m pytest {directory}")
    say(f"  saliencykit explain --masker {made.plugin}/peephole")


add_command(app, new)


def _first_sentence(factory: object) -> str:
    paragraph = (getattr(factory, "__doc__", None) or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split()).split(". ")[0].rstrip(".")
