"""Boxes that ignore the model: the baselines that every table prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask


@final
@dataclass(frozen=True, kw_only=True)
class CenterBox(Masker):
    """A box in the middle: what a photographer's habit alone explains.

    Args:
        area: Its share of the image, in (0, 1]; half in the paper. The sides are rounded to pixels.

    Raises:
        InputError: The area is out of range.

    Example:
        >>> CenterBox(area=0.25).area
        0.25

    References:
        Dabkowski & Gal 2017, tables 1 and 2, "center box".
    """

    area: float = 0.5

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 < self.area <= 1:
            raise InputError(f"CentreBox(area={self.area}): an area is in (0, 1].")

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """The same box for all images; the black box is not asked."""
        batch, _, height, width = images.shape
        h, w = max(1, round(height * self.area**0.5)), max(1, round(width * self.area**0.5))
        top, left = (height - h) // 2, (width - w) // 2
        mask = images.new_zeros(batch, 1, height, width)
        mask[..., top : top + h, left : left + w] = 1
        return mask


@final
@dataclass(frozen=True, kw_only=True)
class WholeImage(Masker):
    """Everything: the mask that explains nothing.

    Example:
        >>> WholeImage()
        WholeImage()

    References:
        Dabkowski & Gal 2017, tables 1 and 2, "max box".
    """

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """All ones; the black box is not asked."""
        return images.new_ones(len(images), 1, *images.shape[2:])


@final
@dataclass(frozen=True, kw_only=True)
class GroundTruthBox(Masker):
    """What a person drew: all boxes of the labelled object. How well can an explanation that is a
    box do at best?

    Not an upper bound for metrics that ask the model: a tight box without its surroundings can be
    harder to recognise. Pictures are known by their pixels, so the order and the size of batches
    make no difference.

    Args:
        boxes: By the pictures' keys (`core.draw.image_keys`); `of` makes the mapping.

    Raises:
        InputError: When asked about a picture whose boxes it was not given.

    Example:
        >>> images = torch.zeros(1, 3, 4, 4)
        >>> masker = GroundTruthBox.of(images, [torch.tensor([[1.0, 0.0, 3.0, 2.0]])])
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> masker(PlantedEvidence(), images, torch.tensor([0]), generator=Generator().manual_seed(0))[0, 0].tolist()
        [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]

    References:
        Dabkowski & Gal 2017, table 1, "ground truth boxes".
    """

    boxes: Mapping[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Images, boxes: Sequence[Tensor]) -> "GroundTruthBox":
        """For these pictures.

        Args:
            images: (B, C, H, W), as the masker will be given them.
            boxes: Per picture (n, 4): x0, y0, x1, y1 in its pixels, x1 and y1 exclusive; n may be
                0, and the mask is then empty.

        Raises:
            InputError: There are more or fewer boxes than pictures, or one is not (n, 4).
        """
        if len(boxes) != len(images):
            raise InputError(
                f"GroundTruthBox.of takes one tensor of boxes per picture; got {len(boxes)} for "
                f"{len(images)}."
            )
        for corners in boxes:
            if corners.ndim != 2 or corners.shape[1] != 4:
                raise InputError(
                    "GroundTruthBox.of: boxes are (n, 4) x0, y0, x1, y1; got shape "
                    f"{tuple(corners.shape)}."
                )
        return cls(boxes=dict(zip(rng.image_keys(images).tolist(), boxes, strict=True)))

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """One inside of the boxes, rounded outwards to pixels; neither the black box nor the label
        is asked.
        """
        mask = images.new_zeros(len(images), 1, *images.shape[2:])
        for row, key in enumerate(rng.image_keys(images).tolist()):
            if key not in self.boxes:
                raise InputError(
                    f"GroundTruthBox knows no boxes of picture {row}; give it those of the "
                    "pictures that it is asked about: GroundTruthBox.of(images, boxes)."
                )
            corners = self.boxes[key].double().cpu()
            first, last = (
                corners[:, :2].floor().clamp_min(0).long().tolist(),
                corners[:, 2:].ceil().clamp_min(0).long().tolist(),
            )
            for (x0, y0), (x1, y1) in zip(first, last, strict=True):
                mask[row, :, y0:y1, x0:x1] = 1
        return mask
