"""Baselines for every results table: maskers that never query the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, final

import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask


@final
@dataclass(frozen=True, kw_only=True)
class CenterBox(Masker):
    """A box in the center of the image. It measures center bias: how far photographers alone
    explain a localization score.

    Args:
        area: Area of the box as a fraction of the image, in (0, 1]; 0.5 in the paper. Its sides
            are rounded to whole pixels.

    Raises:
        InputError: The area is out of range.

    Example:
        >>> CenterBox(area=0.25).area
        0.25

    References:
        Dabkowski & Gal 2017, tables 1 and 2, "center box".
    """

    area: Annotated[float, "(0, 1]"] = 0.5

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """The same box for all images."""
        batch, _, height, width = images.shape
        h, w = max(1, round(height * self.area**0.5)), max(1, round(width * self.area**0.5))
        top, left = (height - h) // 2, (width - w) // 2
        mask = images.new_zeros(batch, 1, height, width)
        mask[..., top : top + h, left : left + w] = 1
        return mask


@final
@dataclass(frozen=True, kw_only=True)
class WholeImage(Masker):
    """A mask of ones, which explains nothing.

    Example:
        >>> WholeImage()
        WholeImage()

    References:
        Dabkowski & Gal 2017, tables 1 and 2, "max box".
    """

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """All ones."""
        return images.new_ones(len(images), 1, *images.shape[2:])


@final
@dataclass(frozen=True, kw_only=True)
class RandomMap(Masker):
    """A coarse grid of uniform random numbers, enlarged: as smooth as a saliency map, with no
    information.

    A metric's value for it is the level that every method has to beat: where a prediction survives
    the loss of any half of the pixels, insertion is high for noise too. The map depends on the
    image and the seed, not on the black box or the label.

    Args:
        grid_size: Random numbers per side, >= 1. The default 7 is the resolution of the last
            feature map of most networks.

    Raises:
        InputError: The number is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> mask = RandomMap()(black_box, images, labels, generator=g)
        >>> mask.shape, bool((mask[0] == mask[1]).all())
        (torch.Size([2, 1, 16, 16]), False)

    References:
        Ours. The simplest form of the control in Adebayo et al. 2018, "Sanity Checks for Saliency
        Maps".
    """

    grid_size: Annotated[int, "[1, inf)"] = 7

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """(B, 1, grid_size, grid_size), uniform in [0, 1)."""
        return rng.uniform(images, (1, self.grid_size, self.grid_size), generator=generator)


@final
@dataclass(frozen=True, kw_only=True)
class GroundTruthBox(Masker):
    """The annotated bounding boxes of the object: how well can an explanation made of boxes do at
    best?

    This is no upper bound for metrics that query the model: an object without its surroundings can
    be harder to recognize. Images are looked up by their pixel values, so their order and the batch
    size make no difference.

    Args:
        boxes: Bounding boxes by image key (`core.rng.image_keys`). `GroundTruthBox.of` makes the
            mapping.

    Raises:
        InputError: There are no boxes for an image; raised when the mask is made.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> images, labels = torch.zeros(1, 3, 4, 4), torch.tensor([0])
        >>> masker = GroundTruthBox.of(images, [torch.tensor([[1.0, 0.0, 3.0, 2.0]])])
        >>> masker(PlantedEvidence(), images, labels, generator=Generator())[0, 0, 0].tolist()
        [0.0, 1.0, 1.0, 0.0]

    References:
        Dabkowski & Gal 2017, table 1, "ground truth boxes".
    """

    boxes: Mapping[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, images: Images, boxes: Sequence[Tensor | Sequence[Sequence[float]]]
    ) -> "GroundTruthBox":
        """The masker for these images.

        Args:
            images: (B, C, H, W), as the masker will get them.
            boxes: For each image (n, 4): x0, y0, x1, y1 in its pixels, x1 and y1 exclusive. Without
                boxes (n = 0) the mask is empty.

        Raises:
            InputError: The number of entries differs from the number of images, or one is not
                (n, 4).
        """
        if len(boxes) != len(images):
            raise InputError(
                "GroundTruthBox.of takes one tensor of bounding boxes per image; got "
                f"{len(boxes)} for {len(images)} images."
            )
        every = [torch.as_tensor(corners, dtype=torch.float64, device="cpu") for corners in boxes]
        for corners in every:
            if corners.ndim != 2 or corners.shape[1] != 4:
                raise InputError(
                    "GroundTruthBox.of takes bounding boxes as (n, 4) tensors of x0, y0, x1, y1; "
                    f"got shape {tuple(corners.shape)}."
                )
        return cls(boxes=dict(zip(rng.image_keys(images).tolist(), every, strict=True)))

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """One inside the boxes, rounded outwards to whole pixels."""
        mask = images.new_zeros(len(images), 1, *images.shape[2:])
        for row, key in enumerate(rng.image_keys(images).tolist()):
            if key not in self.boxes:
                raise InputError(
                    f"GroundTruthBox has no bounding boxes for image {row}. Pass those of all "
                    "images to explain: GroundTruthBox.of(images, boxes)."
                )
            corners = self.boxes[key].double().cpu().clamp_min(0)
            outwards = torch.cat([corners[:, :2].floor(), corners[:, 2:].ceil()], 1).long()
            for x0, y0, x1, y1 in outwards.tolist():
                mask[row, :, y0:y1, x0:x1] = 1
        return mask
