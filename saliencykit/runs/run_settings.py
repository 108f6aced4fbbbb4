"""The settings of a run: what is written to `settings.json`, and whether a run can be resumed with
others.
"""

import hashlib
import os
import platform
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saliencykit._version import __version__
from saliencykit.core import rng
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Sample

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
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def text_of(thing: object) -> str:
    """A repr that is the same in every process: without memory addresses, at most 2,000 characters.

    A masker's text is its `identity`, which tells one training from another.
    """
    text = _ADDRESS.sub("", thing.identity() if isinstance(thing, Masker) else repr(thing))
    return text if len(text) <= _MAX_REPR else f"{text[:_MAX_REPR]}... {_hash(text)}"


def describe_data(data: object, **options: object) -> str:
    """A one-line description of a data set: its path, or the number of items and a hash of them,
    then the options that change how it is read.

    A generator is described by its type alone, because reading it would consume it.

    Args:
        data: As `evaluate` takes it.
        **options: Options of the reader, by name; None is left out.
    """
    if isinstance(data, str | Path):
        text = str(data)
    elif isinstance(data, list | tuple) and data and all(isinstance(each, Sample) for each in data):
        count = sum(len(sample.images) for sample in data)
        keys = [
            key
            for sample in data
            for key in (*rng.image_keys(sample.images).tolist(), *sample.labels.tolist())
        ]
        text = f"{count} images in memory, {_hash(repr(keys))}"
    else:
        text = f"items of {name_of(data)}"
        if isinstance(data, Sized):
            text = f"{len(data)} {text}"
        if isinstance(data, list | tuple):
            text += f", {_hash(repr([_digest(each) for each in data]))}"
    for name, value in options.items():
        if isinstance(value, Mapping):
            value = f"{len(value)} entries, {_hash(repr(sorted(value.items())))}"
        text += "" if value is None else f", {name}={value}"
    return text


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


def _digest(item: object) -> object:
    """What tells an item of a list from another: a path, a label, the pixels of an image."""
    if isinstance(item, Sample):
        return _digest((item.images, item.labels))
    if isinstance(item, tuple | list):
        return [_digest(part) for part in item]
    if item is None or isinstance(item, str | int | os.PathLike):
        return str(item)
    try:
        values = item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
    except Exception:  # a damaged image becomes a row with its failure later
        return name_of(item)
    if values.dtype == object:
        return name_of(item)
    return values.shape, hashlib.sha256(values.tobytes()).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
