"""The page of an explained data set."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import takewhile
from math import nan

from saliencykit.explanation.dataset_run import overlay_path
from saliencykit.reports.page_parts import MAX_IMAGES, gallery, missing, note, open_image, settings
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.run_summary import Summary, summarize
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.visualization.captions import caption
from saliencykit.visualization.html_images import card
from saliencykit.visualization.html_page import document, number, plain, table

_MAX_CLASSES = 40
_NUMBERS = ("probability", "kept", "dropped", "area")
_ROW_TITLES = {
    "probability": "probability of the class",
    "kept": "kept: with only the masked region visible",
    "dropped": "dropped: with the masked region removed",
    "area": "area: fraction of pixels in the mask",
    "seconds": "seconds in the networks",
}


def dataset_page(saved: SavedExplanations) -> str:
    """HTML: statistics, the first images with their masks, the most frequent classes, what is
    missing, and the settings.
    """
    summary = summarize(saved.rows())
    about = f"{summary.explained} of {summary.images} images of {saved.manifest.get('data', '')}"
    reasons = ((text, count, names, "") for text, (count, names) in summary.failures.items())
    parts = [note(about), *_statistics(summary), *_images(saved), *_classes(saved)]
    return document(
        "Which pixels the decisions rest on", [*parts, *missing(reasons), _settings(saved)]
    )


def _statistics(summary: Summary) -> Iterator[str]:
    rows = [
        [plain(_ROW_TITLES[name]), *map(number, values)]
        for name, values in summary.columns.items()
        if values[0] == values[0]
    ]
    yield "<h2>Numbers</h2>"
    yield table(["per image", "mean", "lower quartile", "median", "upper quartile"], rows)
    if summary.verdicts:
        counts = [
            [f"{verdict}: {verdict.words}", str(count)]
            for verdict, count in summary.verdicts.items()
        ]
        yield table(["verdict", "images"], counts)


def _images(saved: SavedExplanations) -> Iterator[str]:
    figures = []
    for row in takewhile(lambda row: row.index < MAX_IMAGES, saved.rows()):
        image = open_image(overlay_path(saved.folder, row.index))
        if image is not None:
            figures.append(card(row.name, row_caption(row, saved), image))
    if figures:
        yield f"<h2>The first images</h2>{gallery(figures)}"


def row_caption(row: ExplainedRow, saved: SavedExplanations) -> str:
    """The class of an image and its numbers, in one line.

    Args:
        row: Of an explained image.
        saved: The run that it belongs to.
    """
    return caption(
        row.label_name or f"class {row.label}",
        **{key: getattr(row, key) for key in _NUMBERS},
        output=saved.manifest.get("output", "softmax"),
        verdict=None if row.verdict is None else row.verdict.words,
    )


def _classes(saved: SavedExplanations) -> Iterator[str]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * (1 + len(_NUMBERS)))
    for row in saved.rows():
        if row.label is not None:
            name = (row.label_name or f"class {row.label}").split(",")[0]
            values = [getattr(row, key) for key in _NUMBERS]
            # a mean over a number that was not measured is NaN, and shown as a dash
            values = [1.0, *(nan if value is None else value for value in values)]
            sums[name] = [a + b for a, b in zip(sums[name], values, strict=True)]
    largest = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))[:_MAX_CLASSES]
    rows = [
        [plain(name), f"{count:.0f}", *(number(total / count) for total in totals)]
        for name, (count, *totals) in largest
    ]
    yield "<h2>Explained classes</h2>"
    yield table(["class", "images", *_NUMBERS], rows, sortable=True)
    if len(sums) > _MAX_CLASSES:
        yield note(
            f"Means of the {_MAX_CLASSES} most frequent of {len(sums)} classes. All rows are in "
            "table.csv."
        )


def _settings(saved: SavedExplanations) -> str:
    manifest = saved.manifest
    names = ("command", "data", "max_images", "label", "masker", "alternative", "precision", "seed")
    model = manifest.get("model") or {}
    return settings(
        {name: manifest.get(name) for name in names},
        {"model": model.get("text"), "fingerprint": model.get("fingerprint")},
        manifest.get("versions") or {},
    )
