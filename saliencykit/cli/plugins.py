"""The command plugins: lists everything that has a name, and makes a new plugin."""

import os
import shlex
import warnings
from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli.console import console

_IN_A_FILE = 200  # columns, where there is no terminal to fit into

app = typer.Typer(
    help="List registered parts, or create a plugin.",
    rich_markup_mode="rich",
    no_args_is_help=True,
)


@app.command("list")
def list_plugins() -> None:
    """List every registered name, and plugins that failed to load with the reason."""
    from rich.table import Table

    from saliencykit.registry.manager import KINDS, registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table below says it
        known = registry()
        named = {kind: known.names(kind) for kind in KINDS}
    names = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    names.add_column("kind", no_wrap=True)
    names.add_column("name", no_wrap=True)
    # one line each: the columns before it are kept
    names.add_column("what it is", no_wrap=True, overflow="ellipsis", ratio=1)
    for kind, mapping in named.items():
        for full, factory in mapping.items():
            names.add_row(kind.replace("_", " "), full, _first_sentence(factory))
    to = console()
    if not to.is_terminal and "COLUMNS" not in os.environ:
        to.width = _IN_A_FILE
    to.print(names)
    to.print()
    state = Table("plugin", "from", "state", box=None, header_style="bold", pad_edge=False)
    for record in known.plugins:
        state.add_row(
            record.name,
            record.origin,
            f"[red]left out:[/red] {record.failure}" if record.failure else "works",
        )
    to.print(state)


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(help="Of the package, as pip will know it, e.g. my-plugin.")
    ],
    into: Annotated[Path, typer.Option(help="Where its folder is made.")] = Path(),
) -> None:
    """Make a plugin of your own from the template: one of each noun, with tests; a folder that pip
    installs.
    """
    from saliencykit.registry.scaffold import new_plugin

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a broken plugin is no business of a new one
        made = new_plugin(name, into)
    to, folder = console(), shlex.quote(str(made.folder))
    count = sum(path.is_file() for path in made.folder.rglob("*"))
    to.print(
        f"{made.folder} written: {count} files, one of each noun, and their tests. Now:",
        soft_wrap=True,
        markup=False,
    )
    pip = folder if made.folder.is_absolute() or folder.startswith(".") else f"./{folder}"
    for command in (
        f"pip install -e {pip}",
        f"python -m pytest {folder}",
        f"saliencykit explain --masker {made.plugin}/peephole",
    ):
        to.print(f"  {command}", soft_wrap=True, markup=False)


def _first_sentence(factory: object) -> str:
    text = (getattr(factory, "__doc__", None) or "").strip().split("\n\n")[0].replace("\n", " ")
    return " ".join(text.split()).split(". ")[0].rstrip(".")
