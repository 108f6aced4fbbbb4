"""What several commands have in common: options, the class in words, processes of a launch, and
what Ctrl-C leaves behind.
"""

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

_MODELS = "demo, timm:resnet18, torchvision:mobilenet_v2, ..."

Model: TypeAlias = Annotated[str, typer.Option(help=f"A model by name: {_MODELS}")]
Device: TypeAlias = Annotated[
    str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")
]
Seed: TypeAlias = Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")
]


def as_label(text: str | None) -> int | str | None:
    """A class of the command line: an index where the text is a number, else a name; None stays
    None.

    Example:
        >>> as_label("285"), as_label("-1"), as_label("tabby"), as_label(None)
        (285, -1, 'tabby', None)
    """
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else text


def training_folder(output: Path) -> Path:
    """Where checkpoints and answers go: beside the file of weights, which can be written, as is
    said before minutes of work.

    Args:
        output: The file.

    Raises:
        InputError: It is no name for such a file, or nothing can be written there.
    """
    if output.suffix != ".safetensors" or output.is_dir():
        raise InputError(
            "--output is a file that ends in .safetensors; got "
            f"{str(output)!r}{', a directory' if output.is_dir() else ''}."
        )
    writable(output.parent)
    return output.with_name(f"{output.stem}-training")


def leads() -> bool:
    """Is this the process that speaks, of those that `accelerate launch` or torchrun started? The
    others do not even warn.
    """
    leading = os.environ.get("RANK", "0") == "0"
    if not leading:
        warnings.simplefilter("ignore")
    return leading


@contextmanager
def going_on(what: str, is_there: Callable[[], bool]) -> Iterator[None]:
    """In this block Ctrl-C says that the same command goes on from what is finished.

    Args:
        what: It goes on from, in words.
        is_there: Is there something to go on from?
    """
    try:
        yield
    except KeyboardInterrupt:
        if is_there():
            complain(f"Stopped; the same command goes on from {what}.")
        raise
