"""Plan: what is evaluated, with what, and how that is written down."""

import hashlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from saliencykit._version import __version__
from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.evaluation.run_directory import FORMAT
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_masker, as_metric

BASELINES = ("center-box", "whole-image", "random", "grad-cam")
"""What every table has beside the methods: two boxes, noise, and what costs one gradient."""

Maskers: TypeAlias = Mapping[str, Masker | str] | Iterable[Masker | str] | Masker | str
Metrics: TypeAlias = Mapping[str, Metric | str] | Iterable[Metric | str] | Metric | str

_T = TypeVar("_T")
_LONGEST = 2000  # letters of a printed form
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def named_maskers(maskers: Maskers, black_box: BlackBox) -> dict[str, Masker]:
    """By name: that of a mapping, the text, a trained file's stem, or the class.

    Raises:
        InputError: Two have one name, or one is no masker.
        GradientError: One needs gradients and the box is query-only.
    """
    out = {
        name: as_masker(masker) for name, masker in _named(maskers, (Masker, str), "masker").items()
    }
    for name, masker in out.items():
        if masker.needs_gradient and not black_box.differentiable:
            raise GradientError(
                f"{name} needs gradients and {name_of(black_box)} is query-only; leave it out, or write "
                "'rise'."
            )
        out[name] = masker.for_black_box(black_box)
    return out


def named_metrics(metrics: Metrics) -> dict[str, Metric]:
    """By name: that of a mapping, the text, or the class.

    Raises:
        InputError: There are none, two have one name, or one is no metric.
    """
    out = {
        name: as_metric(metric) for name, metric in _named(metrics, (Metric, str), "metric").items()
    }
    if not out:
        raise InputError(
            "evaluate takes at least one metric, such as 'insertion'; `saliencykit plugins list` lists "
            "them."
        )
    return out


def with_baselines(maskers: Mapping[str, Masker], baselines: Iterable[str]) -> dict[str, Masker]:
    """The maskers, and the baselines that are not among them yet."""
    out = dict(maskers)
    for name in baselines:
        masker = as_masker(name)
        if name not in out and not any(
            type(each) is type(masker) and each == masker for each in maskers.values()
        ):
            out[name] = masker
    return out


def _named(things: Any, kinds: tuple[type, ...], kind: str) -> dict[str, Any]:
    if isinstance(things, Mapping):
        pairs = [(str(name), thing) for name, thing in things.items()]
    else:
        single = isinstance(things, kinds)
        if not single and not isinstance(things, Iterable):
            raise InputError(
                f"evaluate takes {kind}s as a list or a mapping by name; got {name_of(things)}."
            )
        pairs = [(_name(thing), thing) for thing in ([things] if single else things)]
    for i, (name, thing) in enumerate(pairs):
        if not isinstance(thing, kinds):
            raise InputError(
                f"evaluate: {name!r} is no {kind} but {name_of(thing)}; a {kind} is an object or "
                "a text."
            )
        if not name or name in {other for other, _ in pairs[:i]}:
            raise InputError(
                f"evaluate: two {kind}s are called {name!r}; give them as a mapping, "
                f"{{'one': ..., 'other': ...}}."
            )
    return dict(pairs)


def _name(thing: object) -> str:
    if not isinstance(thing, str):
        return name_of(thing)
    return Path(thing).stem if thing.endswith(".safetensors") else thing


def describe(
    black_box: BlackBox,
    maskers: Mapping[str, Masker],
    metrics: Mapping[str, Metric],
    seed: int,
    data: str,
    max_images: int | None = None,
) -> dict[str, Any]:
    """The settings as JSON: enough to do it again, and to see whether a directory holds the same
    evaluation.
    """
    return {
        "format": FORMAT,
        "versions": versions(),
        "model": {"text": text_of(black_box), "fingerprint": fingerprint(black_box)},
        "maskers": {name: text_of(masker) for name, masker in maskers.items()},
        "metrics": {
            name: {
                "text": text_of(metric),
                "higher_is_better": metric.higher_is_better,
                "about": _about(metric),
            }
            for name, metric in metrics.items()
        },
        "seed": seed,
        "data": data,
        "limit": max_images,
        "command": command(),
    }


def versions() -> dict[str, str]:
    """Of this library and what it stands on."""
    return {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def command() -> str:
    """The line that started this program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def describe_data(data: object, **options: object) -> str:
    """What the pictures are, in words: a path, or a number and a hash of what is in a list; and
    what was asked of the reader.

    Of what is read one after the other nothing is known but its kind.

    Args:
        data: As `evaluate` takes it.
        **options: Of the reader, by name; None is left out.
    """
    if isinstance(data, str | Path):
        text = str(data)
    elif isinstance(data, list | tuple) and data and all(isinstance(each, Sample) for each in data):
        keys = [
            key
            for sample in data
            for key in (*rng.image_keys(sample.images).tolist(), *sample.labels.tolist())
        ]
        text = (
            f"{sum(len(sample.images) for sample in data)} pictures in memory, {_hash(repr(keys))}"
        )
    elif isinstance(data, list | tuple):
        text = (
            f"{len(data)} items of {name_of(data)}, {_hash(repr([_digest(each) for each in data]))}"
        )
    else:
        text = (
            f"{len(data)} items of {name_of(data)}"
            if isinstance(data, Sized)
            else f"items of {name_of(data)}"
        )
    for name, value in options.items():
        if value is not None:
            shown = (
                f"{len(value)} entries, {_hash(repr(sorted(value.items())))}"
                if isinstance(value, Mapping)
                else value
            )
            text += f", {name}={shown}"
    return text


def text_of(thing: object) -> str:
    """The printed form: without addresses, which differ from run to run, and no longer than a page."""
    text = _ADDRESS.sub("", thing.identity() if isinstance(thing, Masker) else repr(thing))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... {_hash(text)}"


def _digest(item: object) -> object:
    """What tells an item of a list from another one: a path, a label, the values of a picture."""
    if isinstance(item, Sample):
        return _digest((item.images, item.labels))
    if isinstance(item, tuple | list):
        return [_digest(part) for part in item]
    if item is None or isinstance(item, str | int | os.PathLike):
        return str(item)
    try:
        values = item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
    except Exception:  # a damaged picture, which will be a row with its reason
        return name_of(item)
    return (
        name_of(item)
        if values.dtype == object
        else (values.shape, hashlib.sha256(values.tobytes()).hexdigest())
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _about(metric: Metric) -> str:
    """What the metric says of itself: the beginning of its documentation, up to the arguments."""
    text = (type(metric).__doc__ or "").strip().split("\n\n")
    first = [
        " ".join(part.split())
        for part in text[:2]
        if not re.match(r"\s*(Args|Raises|Example|References|Attributes):", part)
    ]
    return " ".join(first).replace("`", "")
