"""The page of an explained data set."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from math import nan

from saliencykit.explanation.dataset_run import overlay_path
from saliencykit.reports.page_parts import MAX_IMAGES, gallery, missing, note, open_image, settings
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.locations import files_below
from saliencykit.storage.run_summary import Summary, summarize
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.visualization.captions import caption
from saliencykit.visualization.html_images import card
from saliencykit.visualization.html_page import document, number, plain, table

_MAX_ROWS = 40  # of a table
_FEW = 5  # names of images that have the same failure
_NUMBERS = ("probability", "kept", "dropped", "area")
_ROW_TITLES = {
    "probability": "probability of the class",
    "kept": "kept: with only the masked region visible",
    "dropped": "dropped: with the masked region removed",
    "area": "area: fraction of pixels in the mask",
    "seconds": "seconds in the networks",
}


def dataset_page(saved: SavedExplanations) -> str:
    """HTML: statistics, images with their masks, wrong predictions, the most frequent classes, what
    is missing, and the settings.
    """
    summary = summarize(saved.rows(), few=_MAX_ROWS)
    about = f"{summary.explained} of {summary.images} images of {saved.manifest.get('data', '')}"
    reasons = ((text, count, names[:_FEW], "") for text, (count, names) in summary.failures.items())
    parts = [note(about), *_statistics(summary), *_images(saved), *_mispredicted(summary)]
    parts += [*_classes(saved), *missing(reasons), _settings(saved)]
    return document("Which pixels the decisions rest on", parts)


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
    files = files_below(saved.folder / "overlays", recursive=True)
    drawn = {int(path.stem) for path, _ in files if path.stem.isdecimal()}
    figures = []
    for row in islice((row for row in saved.rows() if row.index in drawn), MAX_IMAGES):
        image = open_image(overlay_path(saved.folder, row.index))
        if image is not None:
            figures.append(card(row.name, row_caption(row, saved), image))
    if figures:
        yield f"<h2>{len(figures)} of the images</h2>{gallery(figures)}"


def _mispredicted(summary: Summary) -> Iterator[str]:
    count, some = summary.mispredicted
    if not count:
        return
    rows = [
        [plain(row.name), plain(row.label_text), plain(row.predicted_text), number(row.probability)]
        for row in some
        if row.probability is not None
    ]
    yield "<h2>Where the model predicts another class</h2>"
    yield table(
        ["image", "explained class", "predicted class", "probability of the explained class"], rows
    )
    if count > len(some):
        yield note(f"The first {len(some)} of {count} images. All rows are in table.csv.")


def row_caption(row: ExplainedRow, saved: SavedExplanations) -> str:
    """The class of an image and its numbers, in one line.

    Args:
        row: Of an explained image.
        saved: The run that it belongs to.
    """
    return caption(
        row.label_name or row.label_text,
        **{key: getattr(row, key) for key in _NUMBERS},
        output=saved.manifest.get("output", "softmax"),
        verdict=None if row.verdict is None else row.verdict.words,
    )


def _classes(saved: SavedExplanations) -> Iterator[str]:
    sums: dict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0] * (1 + len(_NUMBERS)))
    for row in saved.rows():
        if row.label is not None:
            values = [getattr(row, key) for key in _NUMBERS]
            # a mean over a number that was not measured is NaN, and shown as a dash
            values = [1.0, *(nan if value is None else value for value in values)]
            key = (row.label, row.label_text)
            sums[key] = [a + b for a, b in zip(sums[key], values, strict=True)]
    largest = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))[:_MAX_ROWS]
    rows = [
        [plain(name), f"{count:.0f}", *(number(total / count) for total in totals)]
        for (_, name), (count, *totals) in largest
    ]
    yield "<h2>Explained classes</h2>"
    yield table(["class", "images", *_NUMBERS], rows, sortable=True)
    if len(sums) > _MAX_ROWS:
        yield note(
            f"Means of the {_MAX_ROWS} most frequent of {len(sums)} classes. All rows are in "
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
