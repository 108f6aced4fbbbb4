"""Options and steps that several commands share."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from saliencykit.cli.console import complain
from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import writable

_IMAGES = "a directory, CSV file, voc:DIRECTORY or coco:DIRECTORY,annotations=FILE"
_MODEL = (
    "Model, e.g. demo, timm:resnet18, transformers:google/vit-base-patch16-224, or the file of a "
    "surrogate."
)

Data: TypeAlias = Annotated[str, typer.Option(help=f"Images: {_IMAGES}.")]
Model: TypeAlias = Annotated[str, typer.Option(help=_MODEL)]
Device: TypeAlias = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Random seed.", min=0)]
BatchSize: TypeAlias = Annotated[int, typer.Option(help="Batch size.", min=1)]
Repeats: TypeAlias = Annotated[
    int, typer.Option(help="Queries to average, for models that are not deterministic.", min=1)
]
PixelRange: TypeAlias = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="Values of black and white in images of more than 8 bits, e.g. 0 4095. Default: what "
        "the file declares."
    ),
]
Resume: TypeAlias = Annotated[bool, typer.Option(help="Resume from existing results.")]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else.")
]


def as_label(text: str | None) -> int | str | None:
    """A class: an index if the text is a number, else a name; None stays None.

    Example:
        >>> as_label("285"), as_label("-1"), as_label("tabby"), as_label(None)
        (285, -1, 'tabby', None)
    """
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else text


def training_directory(output: Path) -> Path:
    """The directory for checkpoints, beside the file of weights.

    Args:
        output: The file; its directory is created.

    Raises:
        InputError: The name does not suit a weights file, or nothing can be written there.
    """
    if output.suffix != ".safetensors" or output.is_dir():
        raise InputError(
            "--output must be a file that ends in .safetensors; got "
            f"{str(output)!r}{', a directory' if output.is_dir() else ''}."
        )
    writable(output.parent)
    return output.with_name(f"{output.stem}-training")


@contextmanager
def output_directory(path: Path) -> Iterator[None]:
    """In this block results are written to a directory; an error leaves no new empty directory.

    Raises:
        InputError: Nothing can be written there.
    """
    created = not path.exists()
    writable(path)
    try:
        yield
    except BaseException:
        if created and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        raise


def is_main_process() -> bool:
    """Whether this process prints and writes, of those that `accelerate launch` started.

    The others do not even warn.
    """
    main = os.environ.get("RANK", "0") == "0"
    if not main:
        warnings.simplefilter("ignore")
    return main


@contextmanager
def resumable(what: str, exists: Callable[[], bool]) -> Iterator[None]:
    """In this block Ctrl-C tells how to resume.

    Args:
        what: What a second call resumes from, in words.
        exists: Whether there is something to resume from.
    """
    try:
        yield
    except KeyboardInterrupt:
        if exists():
            complain(f"Run the same command again to resume from {what}.")
        raise
