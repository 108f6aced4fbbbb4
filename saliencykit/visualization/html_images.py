"""Images inside an HTML page, as data URLs; all text is escaped."""

import base64
import io

from PIL import Image

from saliencykit.visualization.html_page import plain

_SIDE = 320  # pixels; larger images are reduced
_QUALITY = 82  # of the JPEG; a page of 12 images and 6 maskers then has some 5 MB


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
