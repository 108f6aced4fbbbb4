"""The page of one explanation."""

import torch
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.explanation.result import Explanation
from saliencykit.reports.page_parts import CARD_LEGEND, MAX_IMAGES, gallery, note, settings
from saliencykit.visualization.display import to_pil
from saliencykit.visualization.html_images import card
from saliencykit.visualization.html_page import document
from saliencykit.visualization.mask_overlay import draw_overlay


def explanation_page(explanation: Explanation) -> str:
    """HTML: each image with its overlay, what the mask keeps and drops, and the settings."""
    count = len(explanation)
    more = [note(f"... and {count - MAX_IMAGES} more")] if count > MAX_IMAGES else []
    about = (
        f"{CARD_LEGEND} Kept: p(class) with only the masked region visible; dropped: with it "
        "removed; area: fraction of pixels in the mask. A region is enough if half of the "
        "probability is kept with it, and needed if half is lost without it."
    )
    figures = (_figure(explanation, index) for index in range(min(count, MAX_IMAGES)))
    parts = [note(about), gallery(figures, "large"), *more, settings(explanation.provenance)]
    return document("Which pixels the decision rests on", parts)


def _figure(explanation: Explanation, index: int) -> str:
    pixels, mask = explanation.display_arrays(index)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    keep = torch.from_numpy(mask)[None, None]
    kept, dropped = (
        to_pil(Blur().edit(image, side, Generator().manual_seed(0))) for side in (keep, 1 - keep)
    )
    title = explanation.label_names[index].split(",")[0]
    return card(title, explanation.caption(index), draw_overlay(pixels, mask), kept, dropped)
