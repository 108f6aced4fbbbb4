"""Steps that several commands share."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from saliencykit.cli.console import complain
from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import writable


def as_label(text: str | None) -> int | str | None:
    """A class: an index if the text is a number, else a name; None stays None.

    Example:
        >>> as_label("285"), as_label("-1"), as_label("tabby"), as_label(None)
        (285, -1, 'tabby', None)
    """
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else text


def check_output_file(output: Path, suffix: str = "") -> None:
    """Check that a file can be written, and create its directory, before minutes of work.

    Args:
        output: The file.
        suffix: How its name must end.

    Raises:
        InputError: It is a directory, ends differently, or nothing can be written there.
    """
    if output.is_dir() or (suffix and output.suffix != suffix):
        kind = f"a file that ends in {suffix}" if suffix else "a file"
        raise InputError(
            f"--output must be {kind}; got "
            f"{str(output)!r}{', a directory' if output.is_dir() else ''}."
        )
    writable(output.parent)


def training_directory(output: Path) -> Path:
    """The directory for checkpoints, beside the file of weights.

    Args:
        output: The file; its directory is created.

    Raises:
        InputError: The name does not suit a weights file, or nothing can be written there.
    """
    check_output_file(output, ".safetensors")
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
