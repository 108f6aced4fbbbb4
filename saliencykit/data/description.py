"""A data set in words, by which a run directory recognizes its data."""

import hashlib
import os
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from saliencykit.core import rng
from saliencykit.core.checks import name_of
from saliencykit.core.metric import Sample
from saliencykit.core.visible_text import unicode_text


def describe_source(source: object, **options: object) -> str:
    """What a data set is: a path, or the number and a hash of the items of a list.

    Of an iterable that is read one item at a time, only the type is known.

    Args:
        source: As `Dataset.open` takes it.
        **options: Its other arguments by name; None is left out.

    Example:
        >>> describe_source("photos", labels="labels.csv")
        'photos, labels=labels.csv'
    """
    if isinstance(source, Sample):
        source = [source]
    if isinstance(source, str | Path):
        text = unicode_text(str(source))
    elif isinstance(source, list | tuple) and source and all(isinstance(s, Sample) for s in source):
        keys = [
            key
            for sample in source
            for key in (*rng.image_keys(sample.images).tolist(), *sample.labels.tolist())
        ]
        count = sum(len(sample.images) for sample in source)
        text = f"{count} images in memory, {_hash(repr(keys))}"
    elif isinstance(source, list | tuple | Tensor | np.ndarray):
        digest = (
            _digest(source)
            if isinstance(source, Tensor | np.ndarray)
            else list(map(_digest, source))
        )
        text = f"{len(source)} items of {name_of(source)}, {_hash(repr(digest))}"
    elif isinstance(source, Sized):
        text = f"{len(source)} items of {name_of(source)}"
    else:
        text = f"items of {name_of(source)}"
    return text + "".join(
        f", {name}={_option(value)}" for name, value in options.items() if value is not None
    )


def _option(value: Any) -> object:
    if isinstance(value, str | os.PathLike) or not isinstance(value, Sized):
        return value
    content = sorted(value.items()) if isinstance(value, Mapping) else _digest(value)
    return f"{len(value)} entries, {_hash(repr(content))}"


def _digest(item: Any) -> object:
    """What tells one item of a list from another: a path, a label, the pixel values."""
    if isinstance(item, Sample):
        return _digest((item.images, item.labels))
    if isinstance(item, tuple | list):
        return [_digest(part) for part in item]
    if item is None or isinstance(item, str | int | os.PathLike):
        return str(item)
    try:
        values = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    except Exception:  # a damaged image; its row will say so
        return name_of(item)
    if values.dtype == object:
        return name_of(item)
    return values.shape, hashlib.sha256(values.tobytes()).hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
