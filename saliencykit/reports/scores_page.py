"""The page of an evaluation."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from math import nan
from typing import Any, TypeAlias

import numpy as np
import torch

from saliencykit.evaluation.notebook_table import best_maskers, heading
from saliencykit.evaluation.run_directory import file_names
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.score_summary import ScoreSummary, metric_of
from saliencykit.evaluation.scores import Scores
from saliencykit.reports.page_parts import (
    CARD_LEGEND,
    KEYS,
    gallery,
    missing,
    note,
    open_image,
    settings,
    stop,
)
from saliencykit.visualization.captions import as_text
from saliencykit.visualization.display import display_arrays
from saliencykit.visualization.html_images import card
from saliencykit.visualization.html_page import document, number, plain, table
from saliencykit.visualization.mask_overlay import draw_overlay
from saliencykit.visualization.svg_curves import chart, legend

_Summaries: TypeAlias = Mapping[tuple[str, str], ScoreSummary]

# `kept_0.05`: a point of the curve `kept`
_POINT = re.compile(r"(?P<curve>.+?)_(?P<at>\d+(?:\.\d+)?)")
_FEW = 5  # names of images behind a reason


def scores_page(scores: Scores) -> str:
    """HTML: table, curves, images, what the numbers mean, what is missing, and the settings."""
    model = str(_field(scores.settings.get("model"), "text"))
    short = model if len(model) <= 120 else f"{model[:117]}..."
    count = len({row.index for row in scores.rows})
    data = scores.settings.get("data", "")
    about = f"{len(scores.maskers)} maskers on {count} images, {data}; {short}"
    summaries = {(line.masker, line.score): line for line in scores.table()}
    parts = [
        note(about),
        *_table(scores, summaries),
        *_curves(scores, summaries),
        *_images(scores),
        *_meanings(scores, summaries),
        *_missing(scores),
        _settings(scores.settings),
    ]
    return document("Saliency maps compared", parts)


def _table(scores: Scores, summaries: _Summaries) -> Iterator[str]:
    seconds = scores.seconds()
    best = {(m, name) for name in scores.main for m in best_maskers(scores, summaries, name)}
    rows = _rows(scores, summaries, scores.main, best)
    rows = [[*row, number(seconds[m])] for row, m in zip(rows, scores.maskers, strict=True)]
    yield "<h2>Scores</h2>"
    heads = ["masker", *(heading(scores, name) for name in scores.main), "seconds"]
    yield table(heads, rows, sortable=True)
    yield note(
        "The mean over the images; below it the 95% confidence interval (percentile bootstrap, "
        "10,000 resamples), the median, and the number of images. ↑ higher is better, ↓ lower is "
        "better; the best mean of a column is marked, whatever its interval. Seconds: the median "
        "time for the mask of one image."
    )


def _curves(scores: Scores, summaries: _Summaries) -> Iterator[str]:
    curves: dict[str, list[tuple[float, str]]] = {}
    for name in scores.names:
        metric, slash, part = name.rpartition("/")
        point = _POINT.fullmatch(part) if slash else None
        if point:
            curves.setdefault(f"{metric}: {point['curve']}", []).append((float(point["at"]), name))
    charts = []
    for title, points in curves.items():
        if len(points) > 1:
            lines: dict[str, list[tuple[float, float, float, float]]] = {}
            for masker in scores.maskers:
                own = ((x, summaries[masker, name]) for x, name in sorted(points))
                lines[masker] = [(x, line.mean, line.low, line.high) for x, line in own]
            drawn = chart(lines, "fraction of the image", title)
            charts.append(f"<div><h3>{plain(title)}</h3>{drawn}</div>")
    if charts:
        yield f'<h2>Curves</h2>{legend(scores.maskers)}<div class="charts">{"".join(charts)}</div>'


def _images(scores: Scores) -> Iterator[str]:
    rows: dict[int, dict[str, Row]] = {}
    for row in scores.rows if scores.output_dir else ():
        rows.setdefault(row.index, {})[row.masker] = row
    spreads = {index: _disagreement(scores, list(by.values())) for index, by in rows.items()}
    order = sorted(rows, key=lambda index: (-spreads[index], index))
    sections = [part for index in order for part in _image(scores, rows[index])]
    if sections:
        first = f"First the images on which the maskers' scores differ most. {KEYS} "
        yield f"<h2>Images</h2>{note((first if len(scores.maskers) > 1 else '') + CARD_LEGEND)}"
        yield from sections


def _disagreement(scores: Scores, rows: Sequence[Row]) -> float:
    """How far the main scores of one image are apart, as a mean share of their range over all."""
    shares = []
    for name in scores.main:
        every = [row.scores[name] for row in scores.rows if name in row.scores]
        own = [row.scores[name] for row in rows if name in row.scores]
        if own and max(every) > min(every):
            shares.append((max(own) - min(own)) / (max(every) - min(every)))
    return sum(shares) / max(1, len(shares))


def _image(scores: Scores, rows: dict[str, Row]) -> Iterator[str]:
    """One image with every masker's mask; nothing where no image was stored."""
    assert scores.output_dir is not None
    first = next(iter(rows.values()))
    file = f"{first.index}.png"
    image = open_image(scores.output_dir / "images" / file)
    if image is None:
        return
    first = next((row for row in rows.values() if row.probability is not None), first)
    name = first.label_name.split(",")[0] if first.label_name else f"class {first.label}"
    known, output = "", scores.settings.get("output", "softmax")
    if first.probability is not None:
        known = f", {as_text(first.probability, output)}"
    figures = [card("model input", f"explained class: {name}{known}", image)]
    directories = file_names(scores.maskers)
    for masker in scores.maskers:
        mask, kept, dropped = (
            open_image(scores.output_dir / kind / directories[masker] / file)
            for kind in ("masks", "kept", "dropped")
        )
        if masker in rows and mask is not None and mask.size == image.size:
            keep = torch.from_numpy(np.asarray(mask.convert("L"), np.float32) / 255)
            overlay = draw_overlay(*display_arrays(image, keep[None, None]))
            figures.append(card(masker, _caption(scores, rows[masker]), overlay, kept, dropped))
    yield stop(f"<h3>{plain(first.sample)}</h3>{gallery(figures)}")


def _meanings(scores: Scores, summaries: _Summaries) -> Iterator[str]:
    yield "<h2>What the numbers mean</h2>"
    metrics = scores.settings.get("metrics", {})
    by_metric: dict[str, list[str]] = {}
    for name in scores.names:
        by_metric.setdefault(metric_of(name, metrics), []).append(name)
    for metric, names in by_metric.items():
        known = metrics.get(metric, {})
        better = _field(known, "higher_is_better")
        direction = "" if better is None else f"{'higher' if better else 'lower'} is better"
        heads = ["masker", *(plain(name.removeprefix(f"{metric}/")) for name in names)]
        shown = table(heads, _rows(scores, summaries, names)) if len(names) > 1 else ""
        yield (
            f"<details><summary>{plain(metric)} <small>{direction}</small></summary>"
            f"<p>{plain(str(_field(known, 'about') or ''))}</p>{shown}</details>"
        )


def _missing(scores: Scores) -> Iterator[str]:
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in scores.rows:
        if row.failure is not None:
            reasons.setdefault(row.failure, {}).setdefault(row.masker, []).append(row.sample)
    items = []
    for reason, by in reasons.items():
        names = list(dict.fromkeys(name for samples in by.values() for name in samples))
        who = "every masker" if len(by) == len(scores.maskers) > 1 else ", ".join(by)
        items.append((reason, len(names), names[:_FEW], who))
    return missing(items)


def _settings(known: Mapping[str, Any]) -> str:
    return settings(
        {name: known.get(name) for name in ("command", "data", "seed")},
        {
            "model": _field(known.get("model"), "text"),
            "fingerprint": _field(known.get("model"), "fingerprint"),
        },
        known.get("maskers", {}),
        {name: _field(metric, "text") for name, metric in known.get("metrics", {}).items()},
        known.get("versions", {}),
    )


def _caption(scores: Scores, row: Row) -> str:
    known = ((name, row.scores.get(name, nan)) for name in scores.main)
    shown = [f"{name} {number(value)}" for name, value in known if value == value]
    return "; ".join([*shown, *([row.failure] if row.failure else [])])


def _rows(
    scores: Scores,
    summaries: _Summaries,
    names: Sequence[str],
    best: Container[tuple[str, str]] = (),
) -> list[list[str]]:
    """A row of cells for each masker; the best ones are marked."""
    return [
        [plain(m), *(_cell(summaries[m, name], (m, name) in best) for name in names)]
        for m in scores.maskers
    ]


def _cell(line: ScoreSummary, best: bool) -> str:
    if not line.n:
        return "–"  # noqa: RUF001
    mean = f'<span class="best">{number(line.mean)}</span>' if best else number(line.mean)
    between = f"{number(line.low)} … {number(line.high)}" if line.low == line.low else ""
    return f"{mean}<small>{between}</small><small>median {number(line.median)}, n {line.n}</small>"


def _field(record: Any, name: str) -> Any:
    """A field of a record that a file may hold in another form."""
    return record.get(name) if isinstance(record, dict) else None
