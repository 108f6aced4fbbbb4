"""Pictures of explanations: overlays, and the notebook display."""

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.alternative import value_range
from saliencykit.core.errors import InputError
from saliencykit.explanation.result import Explanation

if TYPE_CHECKING:
    from PIL.Image import Image

Array = np.ndarray[Any, np.dtype[Any]]

CONTOUR = (255, 106, 0)
"""Colour of the line around the mask: an orange that neither skin, grass, sky nor fur is."""
_LONG_SIDE = 1600  # pixels; larger pictures are reduced for display
_SHORT_SIDE = 320  # pixels; smaller ones are enlarged, or the line would hide them
# pixels, twice as many as are shown there, for fine screens; as JPEG, or notebooks grow by
# megabytes
_NOTEBOOK_SIDE = 640


def overlay(explanation: Explanation, index: int = 0) -> "Image":
    """A picture with its mask over it: what is kept shines in colour inside a line, the rest is dim
    and grey.

    The dimming is the mask itself (0 is dimmest), the line is where it passes one half of its
    largest value.

    Args:
        explanation: The answer.
        index: Which of its images, in [0, B).

    Returns:
        A PIL image in RGB with the proportions of the original picture (of the model's input where
        there is none).

    Raises:
        InputError: There is no such image.
    """
    from PIL import Image

    if not 0 <= index < len(explanation):
        raise InputError(
            f"overlay({index}): the explanation has {len(explanation)} image(s), "
            f"0..{len(explanation) - 1}."
        )
    picture, mask = picture_and_mask(explanation, index)
    gray = picture.mean(2, keepdims=True)
    dim = 0.28 * (0.6 * gray + 0.4 * picture)
    shown = picture * mask[..., None] + dim * (1 - mask[..., None])
    pixels = (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
    line = _line(
        mask >= max(0.5 * float(mask.max()), 1e-6), width=max(1, round(min(mask.shape) / 160))
    )
    pixels[line] = CONTOUR
    return Image.fromarray(pixels)


def picture_and_mask(explanation: Explanation, index: int) -> tuple[Array, Array]:
    """One original picture (H, W, 3) in [0, 1] and its mask (H, W), both at a size fit for display."""
    picture = explanation.source_images[index] if explanation.source_images else None
    mask = explanation.mask[index][None].float()
    geometry = explanation.geometries[index] if explanation.geometries else None
    if picture is not None and geometry is not None:
        size = _display_size((picture.height, picture.width))
        color = torch.from_numpy(
            np.asarray(picture.convert("RGB").resize((size[1], size[0])), dtype=np.float32) / 255
        )
        mask = geometry.to_picture(mask)
    else:
        color = _displayed(explanation.images[index : index + 1])
        size = _display_size((color.shape[0], color.shape[1]))
        color = F.interpolate(
            color.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True
        )[0].permute(1, 2, 0)
    mask = F.interpolate(mask, size=size, mode="bilinear", antialias=True)
    return color.clamp(0, 1).numpy(), mask[0, 0].clamp(0, 1).numpy()


def notebook_html(explanation: Explanation) -> str:
    """The display in notebooks: up to eight overlays with their numbers, self-contained and small,
    tens of kB each.
    """
    cells = []
    for index in range(min(len(explanation), 8)):
        buffer = io.BytesIO()
        shown = overlay(explanation, index)
        shown.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        shown.save(buffer, "JPEG", quality=88)
        source = base64.b64encode(buffer.getvalue()).decode()
        cells.append(
            "<figure style='display:inline-block;vertical-align:top;margin:4px;max-width:320px'>"
            f"<img style='max-width:100%' alt='overlay' src='data:image/jpeg;base64,{source}'/>"
            f"<figcaption style='font:12px/1.5 sans-serif'>{html.escape(caption(explanation, index))}</figcaption></figure>"
        )
    more = f"... and {len(explanation) - 8} more, " if len(explanation) > 8 else ""
    masker = html.escape(str(explanation.provenance.get("masker", "a masker")).split("(")[0])
    return f"<div>{''.join(cells)}<p style='font:12px/1.5 sans-serif;margin:0 4px'>{more}by {masker}</p></div>"


def caption(explanation: Explanation, index: int) -> str:
    """One line: the class, its probability whole, kept and dropped, and the area."""
    text = f"{explanation.label_names[index].split(',')[0]}: {explanation.probability[index]:.1%}"
    kept, dropped = explanation.kept, explanation.dropped
    if kept is not None and dropped is not None:
        text += f", kept {kept[index]:.1%}, dropped {dropped[index]:.1%}"
    return text + f", area {explanation.area[index]:.1%}"


def _displayed(images: Tensor) -> Tensor:
    """An image without a picture, (H, W, 3) in [0, 1]: one in model space is spread over its own
    range.
    """
    low, high = value_range(images)
    spread = ((images - low) / (high - low))[0].float()
    if spread.shape[0] not in (1, 3):
        spread = spread.mean(0, keepdim=True)
    return spread.expand(3, -1, -1).permute(1, 2, 0)


def _display_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    scale = 1.0
    if min(size) < _SHORT_SIDE:
        scale = _SHORT_SIDE / min(size)
    if max(size) * scale > _LONG_SIDE:
        scale = _LONG_SIDE / max(size)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _line(inside: Array, width: int) -> Array:
    """The boundary of a region, `2 * width` pixels wide; none along the picture's frame."""
    from skimage.segmentation import find_boundaries

    line = find_boundaries(inside, mode="thick")
    spread = torch.from_numpy(line)[None, None].float()
    return np.asarray((F.max_pool2d(spread, 2 * width - 1, 1, width - 1) > 0)[0, 0].numpy())
