"""BoxThreshold: at which value a mask is cut so that the bounding box fits the object."""

from typing import final

import torch
from torch import Tensor, nn

from saliencykit.core.geometry import boxes_of_sides
from saliencykit.core.types import Mask, PerImage

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""The thresholds to choose from."""
_FEWEST = 0.01  # areas below count as this in logarithms
_STATISTICS = 4 * len(LEVELS)


@final
class BoxThreshold(nn.Module):
    """Chooses a threshold for each mask by a linear function of how its area and the area of its
    bounding box shrink from threshold to threshold.

    What is enough for a model is not where the object ends: a threshold that is the same for all
    masks gives boxes too small for some and far too large for others. Untrained it chooses 0.5 for
    all masks. Costs no pass: it reads the mask at the network's own resolution.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        bias = torch.zeros(len(LEVELS), dtype=torch.float32, device="cpu")
        bias[LEVELS.index(0.5)] = 1.0
        weight = torch.zeros(_STATISTICS, len(LEVELS), dtype=torch.float32, device="cpu")
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, masks: Mask) -> PerImage:
        """The threshold of each mask, (B,).

        Args:
            masks: (B, 1, h, w) in [0, 1].
        """
        chosen = (statistics(masks) @ self.weight.float() + self.bias.float()).argmax(1)
        return masks.new_tensor(LEVELS)[chosen]


def level_boxes(masks: Mask) -> Tensor:
    """The bounding box of each mask at all LEVELS as fractions of its sides, (B, L, 4): x0, y0, x1,
    y1; the whole mask where no pixel reaches the level.

    Args:
        masks: (B, 1, h, w) in [0, 1].
    """
    levels = masks.new_tensor(LEVELS)[None, :, None]
    columns, rows = (masks[:, 0].amax(dim)[:, None] >= levels for dim in (1, 2))
    boxes = boxes_of_sides(columns.flatten(0, 1), rows.flatten(0, 1)).to(masks.dtype)
    height, width = masks.shape[2:]
    return (boxes / masks.new_tensor([width, height, width, height])).view(len(masks), -1, 4)


def statistics(masks: Mask) -> Tensor:
    """What a threshold is chosen by, (B, 4 L): area and box area at each level, and their
    logarithms.

    Args:
        masks: (B, 1, h, w) in [0, 1].
    """
    flat = masks.flatten(1)
    areas = torch.stack([(flat >= level).float().mean(1) for level in LEVELS], 1)
    boxes = level_boxes(masks)
    sides = boxes[..., 2:] - boxes[..., :2]
    both = torch.cat([areas, sides[..., 0] * sides[..., 1]], 1).float()
    return torch.cat([both, both.clamp_min(_FEWEST).log()], 1)
