"""An explained image as four panels of HTML: the image, its heat map, what is kept, what is
dropped.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.visualization.display import to_pil
from saliencykit.visualization.heatmap import Array, draw_heatmap
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
    images = (whole, draw_heatmap(image, mask), kept, dropped)
    panels = list(zip(images, numbers, strict=True))
    pairs = "".join(_pair(panels[first : first + 2], height) for first in (0, 2))
    head = f"<b>{plain(title)}</b>{plain(f': {verdict}') if verdict else ''}"
    return (
        "<section style='margin:0 0 18px;font:14px/1.5 system-ui,sans-serif'>"
        f"<p style='margin:0 0 6px'>{head}</p>"
        f"<div style='display:flex;flex-wrap:wrap;gap:10px'>{pairs}</div></section>"
    )


def _pair(panels: Sequence[tuple[Image.Image, str]], height: int) -> str:
    """Two panels side by side, whose widths are in proportion, so that both have one height."""
    aspects = [image.width / image.height for image, _ in panels]
    width = sum(aspects) * height
    figures = "".join(
        f"<figure style='box-sizing:border-box;margin:0;padding:0;border:0;background:none;"
        f"min-width:0;flex:{aspect:.3f} 1 0'>"
        f"<img style='display:block;width:100%;height:auto;margin:0' alt='{plain(text)}' "
        f"src='{jpeg_data_url(image, side=round(_SHARPNESS * height * max(1.0, aspect)))}'/>"
        f"<figcaption style='color:inherit'>{plain(text)}</figcaption></figure>"
        for aspect, (image, text) in zip(aspects, panels, strict=True)
    )
    return (
        f"<div style='display:flex;gap:10px;min-width:0;flex:{width:.0f} 1 {width:.0f}px;"
        f"max-width:min(100%,{_WIDEST * width:.0f}px)'>{figures}</div>"
    )
