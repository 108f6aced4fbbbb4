"""The page of an explained data set."""

from collections import defaultdict
from collections.abc import Iterator
from html import escape

from saliencykit.explanation.dataset_run import overlay_path
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.run_summary import Summary, summarize
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.visualization.html_images import card, stored
from saliencykit.visualization.html_page import document, facts, number, table

_MOST = 100  # pictures; more make a page that cannot be mailed
_CLASSES = 40
_WORDS = {
    "probability": "probability of the class",
    "kept": "kept: with only the mask shown",
    "dropped": "dropped: with the mask replaced",
    "area": "area: the mask's share of the picture",
    "seconds": "seconds in the networks",
}


def page_of_dataset(saved: SavedExplanations) -> str:
    """HTML: the numbers, the first pictures with their masks, the most frequent classes, what is
    missing, settings.
    """
    summary = summarize(saved.rows())
    about = (
        f"{summary.explained} of {summary.pictures} pictures of {saved.manifest.get('data', '')}"
    )
    parts = [
        f'<p class="dim">{escape(about)}</p>',
        *_numbers(summary),
        *_pictures(saved),
        *_classes(saved),
        *_missing(summary),
    ]
    return document("Which pixels the decisions rest on", [*parts, *_settings(saved)])


def _numbers(summary: Summary) -> Iterator[str]:
    rows = [
        [escape(_WORDS[name]), *map(number, values)]
        for name, values in summary.columns.items()
        if values[0] == values[0]
    ]
    yield "<h2>Numbers</h2>"
    yield table(["of a picture", "mean", "lower quartile", "median", "upper quartile"], rows)


def _pictures(saved: SavedExplanations) -> Iterator[str]:
    cards = []
    for row in saved.rows():
        if row.index >= _MOST:
            break
        picture = stored(overlay_path(saved.folder, row.index))
        if picture is not None:
            cards.append(card(row.name, _caption(row), picture))
    if cards:
        yield f'<h2>The first pictures</h2><div class="cards">{"".join(cards)}</div>'


def _classes(saved: SavedExplanations) -> Iterator[str]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
    for row in saved.rows():
        if row.label is not None:
            values = [
                1.0,
                *(
                    _or_nan(getattr(row, name))
                    for name in ("probability", "kept", "dropped", "area")
                ),
            ]
            name = (row.label_name or f"class {row.label}").split(",")[0]
            sums[name] = [a + b for a, b in zip(sums[name], values, strict=True)]
    largest = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))[:_CLASSES]
    rows = [
        [escape(name), f"{values[0]:.0f}", *(number(v / values[0]) for v in values[1:])]
        for name, values in largest
    ]
    yield "<h2>Classes asked about</h2>"
    yield table(["class", "pictures", "probability", "kept", "dropped", "area"], rows)
    if len(sums) > _CLASSES:
        yield f'<p class="dim">The most frequent {_CLASSES} of {len(sums)}; means. All rows are in table.csv.</p>'


def _or_nan(value: float | None) -> float:
    """NaN for what was not asked, which a mean then shows as a dash."""
    return float("nan") if value is None else value


def _missing(summary: Summary) -> Iterator[str]:
    if summary.reasons:
        yield "<h2>What is missing</h2><ul>"
        for reason, (count, names) in summary.reasons.items():
            more = f" and {count - len(names)} more" if count > len(names) else ""
            yield f"<li>{escape(', '.join(names))}{more}: {escape(reason)}</li>"
        yield "</ul>"


def _settings(saved: SavedExplanations) -> Iterator[str]:
    manifest = saved.manifest
    model = manifest.get("model") or {}
    pairs = [
        (name, manifest.get(name))
        for name in (
            "command",
            "data",
            "limit",
            "label",
            "masker",
            "alternative",
            "precision",
            "seed",
        )
    ]
    pairs += [
        ("model", model.get("text")),
        ("fingerprint", model.get("fingerprint")),
        *(manifest.get("versions") or {}).items(),
    ]
    yield f"<h2>Settings</h2>{facts((name, str(value)) for name, value in pairs if value is not None)}"


def _caption(row: ExplainedRow) -> str:
    name = (row.label_name or f"class {row.label}").split(",")[0]
    shown = [name if row.probability is None else f"{name} {row.probability:.1%}"]
    shown += [
        f"{what} {value:.1%}"
        for what in ("kept", "dropped", "area")
        if (value := getattr(row, what)) is not None
    ]
    return ", ".join(shown)
