"""Many edits of the same pictures: how many are asked at once, and the fill that all of them share."""

from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images

# edits at once: 38 MB of pixels at 224 px, so that a box without a limit does not fill the memory
_LARGEST = 64
_UNLIMITED = 32  # for a box that names no limit


def micro_batch(black_box: BlackBox) -> int:
    """How many edits are made and asked at once.

    Args:
        black_box: What is asked.

    Returns:
        The box's `max_batch`, at most 64; 32 if it names none.
    """
    return min(black_box.max_batch or _UNLIMITED, _LARGEST)


def shared_fill(alternative: Alternative, images: Images, generator: Generator) -> Images | None:
    """The one fill that stands for an alternative in all edits of the same images.

    Args:
        alternative: What replaces.
        images: (B, C, H, W).
        generator: The fill is drawn from it.

    Returns:
        (B, C, H, W), to be used with `compose`; None if each mask has a fill or an edit of its own,
        by `alternative.edit`.
    """
    if alternative.uses_mask or type(alternative).edit is not Alternative.edit:
        return None
    return alternative(images, generator=generator)
