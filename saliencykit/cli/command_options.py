"""Commands: a function's signature gives the options, its docstring their help."""

import copy
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, get_args, get_origin

import typer

SHARED: dict[str, Any] = {
    "data": typer.Option(
        help="Images: a directory, CSV file, voc:DIRECTORY or coco:DIRECTORY,annotations=FILE."
    ),
    "model": typer.Option(
        help="Model, e.g. demo, timm:resnet18, transformers:google/vit-base-patch16-224, or the "
        "file of a surrogate."
    ),
    "device": typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps."),
    "pixel_range": typer.Option(
        help="Values of black and white in images of more than 8 bits, e.g. 0 4095. Default: what "
        "the file declares."
    ),
    "max_images": typer.Option(help="Maximum number of images.", min=1),
    "batch_size": typer.Option(help="Batch size.", min=1),
    "seed": typer.Option(help="Random seed.", min=0),
    "labels": typer.Option(help="CSV file of labels by image."),
    "resume": typer.Option(help="Resume from existing results."),
    "as_json": typer.Option("--json", help="Print the result as JSON on stdout, and nothing else."),
}
"""Options of several commands, by the name of the parameter."""


def add_command(
    app: typer.Typer,
    function: Callable[..., None],
    name: str | None = None,
    panels: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Add a function as a command, whose options are the function's parameters.

    The help of an option is the text in the docstring's `Args`, or that of `SHARED`. A switch that
    is off by default has no `--no-`.

    Args:
        app: The command line.
        function: Its annotations may have a `typer.Option` with limits or another name, or a
            `typer.Argument`.
        name: Of the command; None: that of the function.
        panels: By title, the options that the help shows in a panel of their own.
    """
    about, _, args = (inspect.getdoc(function) or "").partition("\n\nArgs:\n")
    texts = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", args, re.MULTILINE)
    words = {name: " ".join(text.split()) for name, text in texts}
    titles = {option: title for title, names in (panels or {}).items() for option in names}
    signature = inspect.signature(function)
    parameters = []
    for each in signature.parameters.values():
        kind, info = _split(each)
        info.help = words.get(each.name, info.help)
        info.rich_help_panel = titles.get(each.name)
        parameters.append(each.replace(annotation=Annotated[kind, info]))
    vars(function)["__signature__"] = signature.replace(parameters=parameters)
    app.command(name, help=about)(function)


def _split(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """The type of a parameter, and what typer has to know about it."""
    if get_origin(parameter.annotation) is Annotated:
        kind, info = get_args(parameter.annotation)
        return kind, copy.copy(info)
    is_switch = parameter.default is False
    switch = typer.Option(f"--{parameter.name.replace('_', '-')}")
    info = SHARED.get(parameter.name, switch if is_switch else typer.Option())
    return parameter.annotation, copy.copy(info)
