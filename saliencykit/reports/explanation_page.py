"""The page of one explanation."""

from saliencykit.explanation.result import Explanation
from saliencykit.reports.page_parts import KEYS, MAX_IMAGES, note, settings, stop
from saliencykit.visualization.html_page import document

_LARGE, _SMALL = 380, 150  # pixels, the height of a panel; small ones on pages of many images
_FEW = 8


def explanation_page(explanation: Explanation) -> str:
    """HTML: each image with its heat map, what the mask keeps and drops, and the settings."""
    count = len(explanation)
    more = [note(f"... and {count - MAX_IMAGES} more")] if count > MAX_IMAGES else []
    about = (
        "The image, the mask as a heat map, and what the mask keeps and what it drops, the rest "
        "blurred. Kept: p(class) with only the masked region visible; dropped: with it removed. A "
        "region is enough if half of the probability is kept with it, and needed if half is lost "
        "without it."
    )
    height = _LARGE if count <= _FEW else _SMALL
    panels = [explanation.panels(row, height=height) for row in range(min(count, MAX_IMAGES))]
    if count > 1:
        about, panels = f"{about} {KEYS}", list(map(stop, panels))
    parts = [note(about), *panels, *more, settings(explanation.provenance)]
    return document("Which pixels the decision rests on", parts)
