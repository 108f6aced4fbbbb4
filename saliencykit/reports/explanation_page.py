"""The page of one explanation."""

from typing import TYPE_CHECKING

import torch
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import compose
from saliencykit.explanation.result import Explanation
from saliencykit.visualization.html_images import card
from saliencykit.visualization.html_page import document, facts
from saliencykit.visualization.mask_overlay import caption, overlay, picture_and_mask

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST = 100  # pictures; more make a page that cannot be mailed


def page_of_explanation(explanation: Explanation) -> str:
    """HTML: each picture with its overlay and what the mask keeps and drops, and how it was made."""
    cards = []
    for index in range(min(len(explanation), _MOST)):
        kept, dropped = _sides(explanation, index)
        title = explanation.label_names[index].split(",")[0]
        cards.append(
            card(title, caption(explanation, index), overlay(explanation, index), kept, dropped)
        )
    more = f"<p>... and {len(explanation) - _MOST} more</p>" if len(explanation) > _MOST else ""
    parts = [
        '<p class="dim">Large: the mask over the picture; small: what it keeps and what it drops, '
        "the rest blurred. Kept: the "
        "probability with only the mask shown; dropped: with the mask replaced; area: the mask's "
        "share of the picture.</p>",
        f'<div class="cards">{"".join(cards)}</div>{more}',
        "<h2>Settings</h2>",
        facts(
            (name, str(value))
            for name, value in explanation.provenance.items()
            if value is not None
        ),
    ]
    return document("Which pixels the decision rests on", parts)


def _sides(explanation: Explanation, index: int) -> "tuple[Image, Image]":
    from PIL import Image

    color, mask = picture_and_mask(explanation, index)
    picture = torch.from_numpy(color).permute(2, 0, 1)[None].float()
    maps = torch.from_numpy(mask)[None, None].float()
    fill = Blur()(picture, generator=Generator().manual_seed(0))
    sides = (compose(picture, m, fill) for m in (maps, 1 - maps))
    kept, dropped = (
        Image.fromarray((side[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy())
        for side in sides
    )
    return kept, dropped
