"""The page of an evaluation."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from saliencykit.evaluation.run_directory import file_names
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores, ScoreSummary, metric_of
from saliencykit.visualization.html_images import card, stored, stored_overlay
from saliencykit.visualization.html_page import document, facts, number, table
from saliencykit.visualization.svg_curves import chart, legend

# `kept_0.05`: a point of the curve `kept`
_POINT = re.compile(r"(?P<curve>.+?)_(?P<at>\d+(?:\.\d+)?)")
_NAMES = 5  # of pictures, behind a reason


def page_of_scores(scores: Scores) -> str:
    """HTML: table, curves, pictures, what the numbers mean, what is missing, settings."""
    settings = scores.settings
    model = str(_inside(settings.get("model"), "text"))
    pictures = len({row.index for row in scores.rows})
    short = model if len(model) <= 120 else f"{model[:117]}..."
    about = (
        f"{len(scores.maskers)} methods on {pictures} pictures, {settings.get('data', '')}; {short}"
    )
    head = f'<p class="dim">{escape(about)}</p>'
    lines = {(line.masker, line.score): line for line in scores.table()}
    parts = [
        head,
        *_table(scores, lines),
        *_curves(scores, lines),
        *_pictures(scores),
        *_meanings(scores, lines),
    ]
    return document("Saliency maps compared", [*parts, *_missing(scores), *_settings(scores)])


def _table(scores: Scores, lines: dict[tuple[str, str], ScoreSummary]) -> Iterator[str]:
    main, seconds = scores.main, scores.seconds()
    best = {name: best_maskers(scores, lines, name) for name in main}
    rows = []
    for masker in scores.maskers:
        cells = [_cell(lines[masker, name], masker in best[name]) for name in main]
        rows.append([escape(masker), *cells, number(seconds[masker])])
    yield "<h2>Scores</h2>"
    yield table(["method", *(heading(scores, name) for name in main), "seconds"], rows)
    yield (
        '<p class="dim">The mean over the pictures, and below it the 95 % interval when the '
        "pictures are drawn anew (10,000 "
        "bootstrap samples), the median, and the number of pictures. ↑ higher is better, ↓ lower "
        "is better; the best mean of a "
        "column is marked, whatever its interval. Seconds: the median time for one picture's "
        "mask.</p>"
    )


def _curves(scores: Scores, lines: dict[tuple[str, str], ScoreSummary]) -> Iterator[str]:
    found: dict[str, list[tuple[float, str]]] = {}
    for name in scores.names:
        metric, slash, part = name.rpartition("/")
        point = _POINT.fullmatch(part) if slash else None
        if point:
            found.setdefault(f"{metric}: {point['curve']}", []).append((float(point["at"]), name))
    charts = []
    for title, points in found.items():
        if len(points) > 1:
            curve = {
                masker: [
                    (x, lines[masker, name].mean, lines[masker, name].low, lines[masker, name].high)
                    for x, name in sorted(points)
                ]
                for masker in scores.maskers
            }
            charts.append(
                f"<div><h3>{escape(title)}</h3>{chart(curve, 'share of the picture', title)}</div>"
            )
    if charts:
        yield f'<h2>Curves</h2>{legend(scores.maskers)}<div class="charts">{"".join(charts)}</div>'


def _pictures(scores: Scores) -> Iterator[str]:
    if scores.folder is None:
        return
    files = file_names(scores.maskers)
    rows: dict[int, dict[str, Row]] = {}
    for row in scores.rows:
        rows.setdefault(row.index, {})[row.masker] = row
    started = False
    for index, theirs in sorted(rows.items()):
        picture = stored(scores.folder / "pictures" / f"{index}.png")
        if picture is None:
            continue
        if not started:
            about = "Large: the mask over the picture; small: what it keeps and what it drops, the rest blurred."
            yield f'<h2>Pictures</h2><p class="dim">{about}</p>'
            started = True
        one = next(
            (row for row in theirs.values() if row.probability is not None),
            next(iter(theirs.values())),
        )
        sure = "" if one.probability is None else f", {one.probability:.1%}"
        asked = one.label_name.split(",")[0] if one.label_name else f"class {one.label}"
        cards = [card("the model's input", f"asked about: {asked}{sure}", picture)]
        for masker in scores.maskers:
            mask = stored(scores.folder / "masks" / files[masker] / f"{index}.png")
            if masker not in theirs or mask is None or mask.size != picture.size:
                continue
            kept, dropped = (
                stored(scores.folder / side / files[masker] / f"{index}.png")
                for side in ("kept", "dropped")
            )
            cards.append(
                card(
                    masker,
                    _caption(scores, theirs[masker]),
                    stored_overlay(picture, mask),
                    kept,
                    dropped,
                )
            )
        yield f'<h3>{escape(one.sample)}</h3><div class="cards">{"".join(cards)}</div>'


def _meanings(scores: Scores, lines: dict[tuple[str, str], ScoreSummary]) -> Iterator[str]:
    yield "<h2>What the numbers mean</h2>"
    metrics = scores.settings.get("metrics", {})
    for metric in dict.fromkeys(metric_of(name, metrics) for name in scores.names):
        known = metrics.get(metric, {})
        better = _inside(known, "higher_is_better")
        word = "" if better is None else "higher is better" if better else "lower is better"
        names = [name for name in scores.names if metric_of(name, metrics) == metric]
        heads = [escape(name.removeprefix(f"{metric}/")) for name in names]
        rows = [
            [escape(masker), *(_cell(lines[masker, name], False) for name in names)]
            for masker in scores.maskers
        ]
        shown = table(["method", *heads], rows) if len(names) > 1 else ""
        about = escape(str(_inside(known, "about") or ""))
        yield f"<details><summary>{escape(metric)} <small>{word}</small></summary><p>{about}</p>{shown}</details>"


def _missing(scores: Scores) -> Iterator[str]:
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in scores.rows:
        if row.reason is not None:
            reasons.setdefault(row.reason, {}).setdefault(row.masker, []).append(row.sample)
    if not reasons:
        return
    yield "<h2>What is missing</h2><ul>"
    for reason, by in reasons.items():
        who = "every method" if len(by) == len(scores.maskers) > 1 else ", ".join(by)
        names = list(dict.fromkeys(name for some in by.values() for name in some))
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        yield f"<li>{escape(', '.join(names[:_NAMES]))}{more}, by {escape(who)}: {escape(reason)}</li>"
    yield "</ul>"


def _settings(scores: Scores) -> Iterator[str]:
    settings = scores.settings
    pairs = [
        (name, str(settings[name])) for name in ("command", "data", "seed") if name in settings
    ]
    pairs += [
        ("model", str(_inside(settings.get("model"), "text"))),
        ("fingerprint", str(_inside(settings.get("model"), "fingerprint"))),
    ]
    pairs += [(name, str(text)) for name, text in settings.get("maskers", {}).items()]
    pairs += [
        (name, str(_inside(known, "text"))) for name, known in settings.get("metrics", {}).items()
    ]
    pairs += [(name, str(version)) for name, version in settings.get("versions", {}).items()]
    yield f"<h2>Settings</h2>{facts(pairs)}"


def _caption(scores: Scores, row: Row) -> str:
    shown = [f"{name} {number(row.scores[name])}" for name in scores.main if name in row.scores]
    return "; ".join([*shown, *([row.reason] if row.reason else [])])


def heading(scores: Scores, name: str) -> str:
    """A column's name, and which way is better, as HTML."""
    better = scores.higher_is_better(name)
    return escape(name).replace("/", "/<wbr>") + (
        "" if better is None else " ↑" if better else " ↓"
    )


def best_maskers(scores: Scores, lines: dict[tuple[str, str], ScoreSummary], name: str) -> set[str]:
    """Those with the best mean of a score; none where it is unknown which way is better."""
    better = scores.higher_is_better(name)
    means = {masker: lines[masker, name].mean for masker in scores.maskers if lines[masker, name].n}
    if better is None or not means:
        return set()
    top = max(means.values()) if better else min(means.values())
    return {masker for masker, mean in means.items() if mean == top}


def _cell(line: ScoreSummary, best: bool) -> str:
    if not line.n:
        return "–"  # noqa: RUF001
    mean = f'<span class="best">{number(line.mean)}</span>' if best else number(line.mean)
    between = f"{number(line.low)} … {number(line.high)}" if line.low == line.low else ""
    return f"{mean}<small>{between}</small><small>median {number(line.median)}, n {line.n}</small>"


def _inside(known: Any, name: str) -> Any:
    return known.get(name) if isinstance(known, dict) else None
