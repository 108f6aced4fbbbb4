"""The settings of a run: what is written to `settings.json`, and whether a run can be resumed with
others.
"""

import hashlib
import platform
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from saliencykit._version import __version__
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.visible_text import unicode_text

_MAX_REPR = 2000  # characters of a repr
_MAX_SETTING = 100  # characters of a setting in an error message
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def versions() -> dict[str, str]:
    """The versions of saliencykit, torch and Python."""
    return {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def command() -> str:
    """The command line that started this program."""
    program = Path(sys.argv[0]).name
    program = "saliencykit" if program == "__main__.py" else program  # python -m saliencykit
    return unicode_text(shlex.join([program, *sys.argv[1:]]))


def text_of(thing: object) -> str:
    """A repr that is the same in every process: without memory addresses, at most 2,000 characters.

    A masker's text is its `identity`, which tells one training from another.
    """
    text = thing.identity() if isinstance(thing, Masker) else repr(thing)
    text = unicode_text(_ADDRESS.sub("", text))
    return text if len(text) <= _MAX_REPR else f"{text[:_MAX_REPR]}... {_hash(text)}"


def continued(
    path: Path,
    what: str,
    must_agree: Iterable[str],
    known: Mapping[str, Any],
    new: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of a run that is resumed: the known ones, with the larger `max_images` and both
    command lines.

    Args:
        path: The run directory.
        what: What the directory contains, for the error message.
        must_agree: Names of the settings that may not differ.
        known: The settings in the directory.
        new: The settings of this call.

    Raises:
        InputError: Some settings differ; the message says which and how.

    Warns:
        UserWarning: The run was started with other versions.
    """
    differences = [
        _difference(key, known.get(key), new.get(key))
        for key in must_agree
        if known.get(key) != new.get(key)
    ]
    if differences:
        raise InputError(
            f"{path} contains {what} with other settings: {'; '.join(differences)}. Choose another "
            "directory, or start again there with resume=False (--no-resume)."
        )
    if known.get("versions") != new.get("versions"):
        warnings.warn(
            f"{path} was started with {known.get('versions')}; this is {new.get('versions')}.",
            stacklevel=4,
        )
    limits: list[Any] = [known.get("max_images"), new.get("max_images")]
    return dict(known) | {
        "max_images": None if None in limits else max(limits),
        "command": f"{known.get('command')} && {new.get('command')}",
    }


def _difference(key: str, known: object, new: object) -> str:
    """How a setting differs, in words; of a mapping only the entries that differ."""
    if not isinstance(known, dict) or not isinstance(new, dict):
        return f"{key}: {_short(known)} in the directory, {_short(new)} in this call"
    parts = [
        _difference(name, known.get(name, "none"), new.get(name, "none"))
        for name in dict.fromkeys([*known, *new])
        if known.get(name) != new.get(name)
    ]
    return f"{key} ({'; '.join(parts)})"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_SETTING else f"{text[: _MAX_SETTING - 3]}..."


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
