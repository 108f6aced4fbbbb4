"""MaskerOutput: a mask, what it was computed from, and nested masks of other areas."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from saliencykit.core.map_placement import place_maps, resize_maps
from saliencykit.core.nested_masks import budget_masks, pixel_order
from saliencykit.core.types import Mask, PerImage

_COARSE = 4  # pixels of the image per position: a budget's mask of coarser maps is made larger


@final
@dataclass(frozen=True)
class MaskerOutput:
    """A mask and what it was computed from.

    Attributes:
        mask: (B, 1, h, w) in [0, 1].
        attributions: The raw, signed attributions behind the mask, (B, 1, h, w), or None.
        standard_error: An estimate of their standard error, (B, 1, h, w) per position or (B,) per
            map, or None.
        low_res_mask: The mask before `attribute` enlarged it, (B, 1, h, w) at the masker's own
            resolution. This is the one that gets saved.
        offset: How far the positions of the maps are below and to the right of an even grid on the
            image, in pixels; `attribute` moves the maps accordingly.
        channel_attributions: Raw, signed attributions of each channel of the pixels, (B, C, h, w),
            or None.
        box_threshold: The value at which each mask is cut for its bounding box, (B,) in (0, 1];
            None: 0.5.

    Example:
        >>> attributions = torch.tensor([[[[-1.0, 2.0]]]])
        >>> MaskerOutput(attributions.clamp(0, 1), attributions).mask.tolist()
        [[[[0.0, 1.0]]]]
    """

    mask: Mask
    attributions: Tensor | None = None
    standard_error: Tensor | None = None
    low_res_mask: Mask | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    channel_attributions: Tensor | None = None
    box_threshold: PerImage | None = None

    def nested(self, areas: Sequence[float]) -> Mask:
        """A mask of each area, smaller ones inside larger ones, in the order of the mask's values;
        where it is equal, in that of the attributions. Pixels that are equal in both share a value.

        Args:
            areas: n means of the masks, in (0, 1).

        Returns:
            (B, n, h, w) in [0, 1].

        Raises:
            InputError: An area is outside (0, 1).

        Example:
            >>> output = MaskerOutput(torch.tensor([[[[0.9, 0.5, 0.0, 0.0]]]]))
            >>> output.nested((0.25, 0.5)).squeeze().round().tolist()
            [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
        """
        order = self.mask  # its own values order the pixels: one sort less
        if self.attributions is not None:
            order = pixel_order(order, resize_maps(self.attributions, order.shape[2:]))
        return budget_masks(order, areas).to(self.mask.dtype)


def ranked(output: MaskerOutput, size: Sequence[int]) -> MaskerOutput:
    """The output with the order of its pixels, at a resolution at which a share of them is a
    region: a share of a few cells is none.

    Args:
        output: With a mask (B, 1, h, w).
        size: Height and width of the image.
    """
    if output.mask.shape[2] * _COARSE < size[0]:
        output = placed_on(output, size)
    # the order stays known, also where a further mask is 0 or 1
    return replace(
        output, attributions=output.mask if output.attributions is None else output.attributions
    )


def placed_on(output: MaskerOutput, size: Sequence[int]) -> MaskerOutput:
    """The same maps on the even grid of the image's pixels.

    Args:
        output: With maps of any side.
        size: Height and width of the image.
    """
    offset = output.offset
    mask = place_maps(output.mask.detach(), size, offset).clamp(0, 1)
    attributions, error = output.attributions, output.standard_error
    if attributions is not None:
        attributions = place_maps(attributions.detach(), size, offset)
    if error is not None:
        error = error.detach() if error.ndim < 4 else place_maps(error.detach(), size, offset)
    placed = replace(output, mask=mask, attributions=attributions, standard_error=error)
    return replace(placed, low_res_mask=None, offset=(0.0, 0.0))
