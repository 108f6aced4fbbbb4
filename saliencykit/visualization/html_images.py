"""Pictures inside a page: overlay, kept and dropped as data addresses."""

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from saliencykit.explanation.result import Explanation
from saliencykit.visualization.mask_overlay import overlay

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 320  # pixels; larger pictures are reduced
_QUALITY = 82  # of the JPEG; a page of 12 pictures and 6 methods then has some 5 MB


def data_address(picture: "Image") -> str:
    """The picture as JPEG in an address of its own."""
    from PIL import Image

    small = picture.convert("RGB")
    if max(small.size) > _SIDE:
        scale = _SIDE / max(small.size)
        small = small.resize(
            (max(1, round(small.width * scale)), max(1, round(small.height * scale))),
            Image.Resampling.LANCZOS,
        )
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def card(
    title: str,
    caption: str,
    main: "Image",
    kept: "Image | None" = None,
    dropped: "Image | None" = None,
) -> str:
    """One method's answer: the overlay, and below it what it keeps and what it drops; title and
    caption are plain text.
    """
    pair = ""
    if kept is not None and dropped is not None:
        sides = (("kept", kept), ("dropped", dropped))
        images = "".join(
            f'<div><img src="{data_address(side)}" alt="{name} by '
            f'{escape(title)}"><span>{name}</span></div>'
            for name, side in sides
        )
        pair = f'<div class="pair">{images}</div>'
    shown = f'<img src="{data_address(main)}" alt="{escape(title)}">'
    return f"<figure>{shown}{pair}<figcaption><b>{escape(title)}</b><br>{escape(caption)}</figcaption></figure>"


def stored_overlay(picture: "Image", mask: "Image") -> "Image":
    """The library's own overlay, from a picture and a grey mask of its size."""
    images = _tensor(picture.convert("RGB")).permute(2, 0, 1)[None]
    maps = _tensor(mask.convert("L"))[None, None]
    nothing = torch.zeros(1, dtype=torch.int64)
    return overlay(Explanation(images=images, labels=nothing, mask=maps, logits=torch.zeros(1, 1)))


def stored(path: Path) -> "Image | None":
    """A picture of a run directory; None where it is missing or damaged."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except (OSError, SyntaxError, ValueError):
        return None


def _tensor(picture: "Image") -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)
