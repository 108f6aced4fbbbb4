"""The settings of an evaluation: maskers and metrics by name, and what `settings.json` contains."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric
from saliencykit.evaluation.run_directory import FORMAT
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_masker, as_metric
from saliencykit.runs.run_settings import command, text_of, versions

BASELINES = ("center-box", "whole-image", "random", "grad-cam")
"""The baselines of every table: two fixed masks, noise, and a map that costs one gradient."""

Maskers: TypeAlias = Mapping[str, Masker | str] | Iterable[Masker | str] | Masker | str
Metrics: TypeAlias = Mapping[str, Metric | str] | Iterable[Metric | str] | Metric | str


def named_maskers(maskers: Maskers, black_box: BlackBox) -> dict[str, Masker]:
    """Normalize to `{name: Masker}`: the name is the mapping's, the text, a file's stem, or the
    class.

    Raises:
        InputError: Two have one name, or one is not a masker.
        GradientError: One needs gradients and the black box is query-only.
    """
    out = {name: as_masker(one) for name, one in _named(maskers, (Masker, str), "masker").items()}
    for name, masker in out.items():
        if masker.needs_gradient and not black_box.differentiable:
            raise GradientError(
                f"{name} needs gradients and {name_of(black_box)} is query-only; leave it out, or "
                "write 'rise'."
            )
        out[name] = masker.bound_to(black_box)
    return out


def named_metrics(metrics: Metrics) -> dict[str, Metric]:
    """Normalize to `{name: Metric}`: the name is the mapping's, the text, or the class.

    Raises:
        InputError: There are none, two have one name, or one is not a metric.
    """
    out = {name: as_metric(one) for name, one in _named(metrics, (Metric, str), "metric").items()}
    if not out:
        raise InputError(
            "evaluate needs at least one metric, such as 'insertion'; `saliencykit plugins list` "
            "lists them."
        )
    return out


def with_baselines(maskers: Mapping[str, Masker], baselines: Iterable[str]) -> dict[str, Masker]:
    """The maskers, and the baselines that are not among them yet."""
    out = dict(maskers)
    for name in baselines:
        masker = as_masker(name)
        if not any(type(each) is type(masker) and each == masker for each in maskers.values()):
            out.setdefault(name, masker)
    return out


def _named(things: Any, kinds: tuple[type, ...], kind: str) -> dict[str, Any]:
    if isinstance(things, Mapping):
        pairs = [(str(name), thing) for name, thing in things.items()]
    elif isinstance(things, kinds):
        pairs = [(_name(things), things)]
    elif isinstance(things, Iterable):
        pairs = [(_name(thing), thing) for thing in things]
    else:
        raise InputError(
            f"evaluate takes {kind}s as a list or as a mapping by name; got {name_of(things)}."
        )
    out: dict[str, Any] = {}
    for name, thing in pairs:
        if not isinstance(thing, kinds):
            raise InputError(
                f"evaluate: {name!r} is not a {kind} but {name_of(thing)}; pass a {kind} or its "
                "name."
            )
        if not name or name in out:
            raise InputError(
                f"evaluate: two {kind}s are called {name!r}; give them as a mapping, "
                "{'one': ..., 'other': ...}."
            )
        out[name] = thing
    return out


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
    """The settings as JSON: enough to repeat the evaluation, and to tell whether a directory
    contains the same one.
    """
    return {
        "format": FORMAT,
        "versions": versions(),
        "model": {"text": text_of(black_box), "fingerprint": fingerprint(black_box)},
        "output": black_box.output,
        "maskers": {name: text_of(masker) for name, masker in maskers.items()},
        "metrics": {
            name: {
                "text": text_of(metric),
                "higher_is_better": metric.higher_is_better,
                "about": _summary(metric),
            }
            for name, metric in metrics.items()
        },
        "seed": seed,
        "data": data,
        "max_images": max_images,
        "command": command(),
    }


def _summary(metric: Metric) -> str:
    """The first two paragraphs of the metric's docstring, up to its sections."""
    paragraphs = (type(metric).__doc__ or "").strip().split("\n\n")[:2]
    section = re.compile(r"\s*(Args|Raises|Example|References|Attributes):")
    texts = [" ".join(part.split()) for part in paragraphs if not section.match(part)]
    return " ".join(texts).replace("`", "")
