"""An explained image as four panels of HTML: the image, its heat map, what is kept, what is
dropped.
"""

from collections.abc import Sequence
from functools import partial
from itertools import starmap

import torch
from PIL import Image
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.visualization.display import to_pil
from saliencykit.visualization.heatmap import COLOR_BAR, Array, blended
from saliencykit.visualization.html_images import jpeg_data_url
from saliencykit.visualization.html_page import plain

_WIDEST = 1.4  # times the usual height of a panel, for a pair alone in its row
_SHARPNESS = 1.25  # pixels of the image for one on the screen


def mask_panels(
    image: Array, mask: Array, title: str, verdict: str, numbers: Sequence[str], *, height: int
) -> str:
    """Two pairs of panels, side by side where the page is wide enough.

    The styles are inline and take the colors of the page around them, a notebook in light or dark.
    In `kept` and `dropped`, blur fills what was removed.

    Args:
        image: (H, W, 3) in [0, 1].
        mask: (H, W) in [0, 1].
        title: Plain text, in bold.
        verdict: Plain text, after the title.
        numbers: Plain text, below each of the four panels.
        height: Of a panel on the screen, in pixels.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    keep = torch.from_numpy(mask)[None, None]
    whole, kept, dropped = (
        to_pil(Blur().edit(pixels, side, Generator().manual_seed(0)))
        for side in (torch.ones_like(keep), keep, 1 - keep)
    )
    images = (whole, blended(image, mask), kept, dropped)
    bars = ("", f" &ensp;{COLOR_BAR}", "", "")
    figures = list(starmap(partial(_figure, height), zip(images, numbers, bars, strict=True)))
    width = 2 * height * whole.width / whole.height
    pairs = "".join(_pair(figures[first : first + 2], width) for first in (0, 2))
    head = f"<b>{plain(title)}</b>{plain(f': {verdict}') if verdict else ''}"
    return (
        "<section style='margin:0 0 18px;font:14px/1.5 system-ui,sans-serif'>"
        f"<p style='margin:0 0 6px'>{head}</p>"
        f"<div style='display:flex;flex-wrap:wrap;gap:10px'>{pairs}</div></section>"
    )


def _figure(height: int, image: Image.Image, text: str, bar: str) -> str:
    side = round(_SHARPNESS * height * max(1.0, image.width / image.height))
    return (
        "<figure style='box-sizing:border-box;margin:0;padding:0;border:0;background:none;"
        "min-width:0;flex:1 1 0'>"
        f"<img style='display:block;width:100%;height:auto;margin:0' alt='{plain(text)}' "
        f"src='{jpeg_data_url(image, side=side)}'/>"
        f"<figcaption style='color:inherit'>{plain(text)}{bar}</figcaption></figure>"
    )


def _pair(figures: Sequence[str], width: float) -> str:
    """Two panels side by side."""
    return (
        f"<div style='display:flex;gap:10px;min-width:0;flex:{width:.0f} 1 {width:.0f}px;"
        f"max-width:min(100%,{_WIDEST * width:.0f}px)'>{''.join(figures)}</div>"
    )
