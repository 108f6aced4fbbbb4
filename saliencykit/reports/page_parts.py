"""Parts that the reports share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.storage.image_formats import opened_image
from saliencykit.visualization.html_page import definitions, plain

MAX_IMAGES = 100
"""More images make a page that is too large to mail."""

CARD_LEGEND = (
    "Large: the mask over the image. Small: what the mask keeps and what it drops, the rest "
    "blurred."
)


KEYS = "The keys j and k go to the next and the previous image."


def stop(part: str) -> str:
    """HTML of one image, which the keys go to."""
    return f'<section data-stop tabindex="-1">{part}</section>'


def note(text: str) -> str:
    """A paragraph of plain text, dimmed."""
    return f'<p class="dim">{plain(text)}</p>'


def gallery(figures: Iterable[str]) -> str:
    """Figures, as HTML, side by side."""
    return f'<div class="cards">{"".join(figures)}</div>'


def missing(items: Iterable[tuple[str, int, Sequence[str], str]]) -> Iterator[str]:
    """The section on images without a result; empty where there are none.

    Args:
        items: By reason: the reason, the number of images, the names of the first few, and which
            maskers it concerns (empty: no masker is named).
    """
    lines = []
    for reason, count, names, maskers in items:
        more = f" and {count - len(names)} more" if count > len(names) else ""
        who = f", by {maskers}" if maskers else ""
        line = f"{', '.join(names)}{more}{who}: {reason}"
        lines.append(f"<li>{plain(line)}</li>")
    if lines:
        yield f"<h2>What is missing</h2><ul>{''.join(lines)}</ul>"


def settings(*groups: Mapping[str, Any]) -> str:
    """The section on settings: names and values, without those that are None or empty."""
    pairs = (pair for group in groups for pair in group.items())
    known = (
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in pairs
        if value is not None and value not in ("", [], ())
    )
    return f"<h2>Settings</h2>{definitions(known)}"


def open_image(path: Path) -> Image.Image | None:
    """An image of a run directory; None where it is missing or damaged."""
    try:
        with opened_image(path) as image:
            image.load()
            return image.copy()
    except InputError:
        return None
