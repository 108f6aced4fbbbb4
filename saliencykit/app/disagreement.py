"""What two maskers disagree on: one image with the pixels that only one of them keeps."""

import numpy as np
from PIL import Image

from saliencykit.app.exploration import Exploration, View
from saliencykit.visualization.captions import as_text
from saliencykit.visualization.heatmap import Array, in_gray
from saliencykit.visualization.html_images import jpeg_data_url
from saliencykit.visualization.html_page import plain, table

FIRST, SECOND = (255, 106, 0), (44, 143, 214)
"""RGB of the pixels that only the first or only the second masker keeps."""
_TINT = 0.55  # of the color over the image
_DIM = 0.3  # brightness of the pixels that neither keeps


def disagreement(first: tuple[Exploration, View], second: tuple[Exploration, View]) -> str:
    """HTML: the image with both regions, what they share, and what each keeps and drops.

    Args:
        first: An image explained by one masker, at a budget.
        second: The same image by another masker, at the same budget.
    """
    pixels, geometry = first[0].display()
    masks = [view.explanation.mask for _, view in (first, second)]
    shown = draw_regions(pixels, *(geometry.to_source(mask)[0, 0].numpy() for mask in masks))
    shared = float(np.minimum(*(mask.numpy() for mask in masks)).mean())
    union = float(np.maximum(*(mask.numpy() for mask in masks)).mean())
    rows = [
        [f'<i style="color:rgb{color}">■</i> {plain(each.choice.masker)}', *_numbers(view)]
        for color, (each, view) in zip((FIRST, SECOND), (first, second), strict=True)
    ]
    text = f"The two regions share {shared / max(union, 1e-9):.0%} of what either of them keeps."
    image = (
        f'<figure><img src="{jpeg_data_url(shown, side=max(shown.size))}" alt="{plain(text)}">'
        f"<figcaption><span>{plain(text)}</span></figcaption></figure>"
    )
    heads = ["masker", "area", "kept", "dropped", "verdict"]
    return f'<div class="sk-panels sk-two">{image}{table(heads, rows)}</div>'


def draw_regions(image: Array, first: Array, second: Array) -> Image.Image:
    """Both regions in one image: what both keep is bright, what only one keeps has its color.

    Args:
        image: (H, W, 3) in [0, 1].
        first: (H, W) in [0, 1].
        second: (H, W) in [0, 1].

    Example:
        >>> gray, left = np.full((2, 2, 3), 0.5), np.array([[1.0, 0.0], [1.0, 0.0]])
        >>> draw_regions(gray, left, left).getpixel((0, 0))
        (128, 128, 128)
    """
    both, neither = np.minimum(first, second), 1 - np.maximum(first, second)
    gray = in_gray(image)
    drawn = both[..., None] * image + neither[..., None] * _DIM * gray
    for own, color in ((first - both, FIRST), (second - both, SECOND)):
        drawn = drawn + own[..., None] * ((1 - _TINT) * gray + _TINT * np.array(color) / 255)
    return Image.fromarray((np.clip(drawn, 0, 1) * 255 + 0.5).astype(np.uint8))


def _numbers(view: View) -> list[str]:
    explanation = view.explanation
    values = (explanation.kept, explanation.dropped)
    trial = ["–" if v is None else as_text(float(v[0]), explanation.output) for v in values]  # noqa: RUF001
    verdict = explanation.verdicts[0] if explanation.verdicts else ""
    return [f"{float(explanation.area[0]):.0%}", *trial, plain(verdict)]
