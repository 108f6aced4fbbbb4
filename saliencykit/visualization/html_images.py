"""Images inside an HTML page, as data URLs; all text is escaped."""

import base64
import io
from collections.abc import Iterable

from PIL import Image

from saliencykit.visualization.html_page import plain

_SIDE = 320  # pixels; larger images are reduced
_QUALITY = 82  # of the JPEG; a page of 12 images and 6 maskers then has some 5 MB
# pixels; twice as many as are shown, for high-resolution screens
_NOTEBOOK_SIDE = 640


def jpeg_data_url(image: Image.Image, *, side: int = _SIDE, quality: int = _QUALITY) -> str:
    """The image as a JPEG data URL.

    Args:
        image: Any mode.
        side: The longer side is reduced to this many pixels.
        quality: Of the JPEG, in 1..95.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def card(
    title: str,
    caption: str,
    main: Image.Image,
    kept: Image.Image | None = None,
    dropped: Image.Image | None = None,
) -> str:
    """A figure: an overlay, below it what the mask keeps and drops, and a caption.

    Args:
        title: Plain text, in bold.
        caption: Plain text.
        main: The overlay.
        kept: The image with only the masked region visible.
        dropped: The image with the masked region removed.
    """
    pair = ""
    if kept is not None and dropped is not None:
        sides = "".join(
            f'<div><img src="{jpeg_data_url(side)}" alt="{name} by {plain(title)}">'
            f"<span>{name}</span></div>"
            for name, side in (("kept", kept), ("dropped", dropped))
        )
        pair = f'<div class="pair">{sides}</div>'
    return (
        f'<figure><img src="{jpeg_data_url(main)}" alt="{plain(title)}">{pair}'
        f"<figcaption><b>{plain(title)}</b><br>{plain(caption)}</figcaption></figure>"
    )


def notebook_gallery(images: Iterable[Image.Image], captions: Iterable[str], footer: str) -> str:
    """Images side by side with captions, for a notebook; tens of kB each.

    Args:
        images: Any mode and size.
        captions: Plain text, one each.
        footer: Plain text, below all of them.
    """
    figures = "".join(
        "<figure style='display:inline-block;vertical-align:top;margin:4px;max-width:320px'>"
        f"<img style='max-width:100%' alt='overlay' "
        f"src='{jpeg_data_url(image, side=_NOTEBOOK_SIDE, quality=88)}'/>"
        f"<figcaption style='font:12px/1.5 sans-serif'>{plain(caption)}</figcaption></figure>"
        for image, caption in zip(images, captions, strict=True)
    )
    style = "font:12px/1.5 sans-serif;margin:0 4px"
    return f"<div>{figures}<p style='{style}'>{plain(footer)}</p></div>"
