"""Masked images for querying a model: whole images, random grids, and random blobs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.data.training_images import TrainingImages
from saliencykit.maskers.perturbation.random_masks import upsampling_matrices
from saliencykit.training.cache import Views

AREAS = (0.1, 0.25, 0.5, 0.75)
"""Kept areas at which a surrogate is compared with its model, beside whole images."""
_GRIDS = (3, 4, 6, 8)  # cells per side of a grid
_BLOBS = (3, 5, 8)  # values per side that a blob is upsampled from
_SOFT = (0.02, 0.6)  # width of a blob's edge, in standard deviations of its surface
_SORTED = 32  # pixels per side at which the threshold of a blob is found
_WHOLE = 0.2  # fraction of training images that are not masked
_CROPPED = 0.5  # fraction of them that are a crop or its mirror image, so that few images suffice
_BLOCK = 64  # images drawn together; fixed, so that they do not depend on how many are wanted


@final
@dataclass(frozen=True)
class MaskedImages:
    """Images as a model is queried with them, at 8 bits per value: exactly what the model sees.

    Attributes:
        pixels: (Q, C, H, W) uint8.
        source: (Q,) index of the image each was made from.
        area: (Q,) mean of its mask; 1 for a whole image.
    """

    pixels: Tensor
    source: Tensor
    area: Tensor

    def __len__(self) -> int:
        """Q."""
        return len(self.pixels)

    def images(self, index: Tensor) -> Images:
        """Raw pixels in [0, 1] of some rows."""
        return self.pixels[index].float() / 255

    def rows(self, part: slice) -> "MaskedImages":
        """A part of them."""
        return MaskedImages(self.pixels[part], self.source[part], self.area[part])


def training_images(
    images: TrainingImages, count: int, alternative: Alternative, seed: int
) -> MaskedImages:
    """Masked images for training; the first ones are the same for every count.

    Every image is used once before any is used again. A fifth is whole; the others keep 2 to 98% of
    the area in grids or in blobs.

    Args:
        images: What is masked.
        count: How many masked images, >= 1.
        alternative: What replaces pixels.
        seed: Random seed.

    References:
        Grids: Petsiuk et al. 2018, "RISE", section 3.2.
    """
    parts: list[MaskedImages] = []
    epochs = range(-(-count // len(images)))
    order = torch.cat(
        [
            torch.randperm(len(images), generator=_generator(seed, 1, epoch), device="cpu")
            for epoch in epochs
        ]
    )[:count]
    for first in range(0, count, _BLOCK):
        generator = _generator(seed, 2, first)
        numbers = torch.rand(_BLOCK, 3, generator=generator, dtype=torch.float32, device="cpu")
        source = order[first : first + _BLOCK]
        epoch = torch.arange(first, first + len(source), device="cpu") // len(images) + 1
        view = torch.where(numbers[: len(source), 0] < _CROPPED, epoch, 0)
        block = Views(images, source, view, seed).images(torch.arange(len(source), device="cpu"))
        size = (block.shape[2], block.shape[3])
        mask = draw_masks(0.02 + 0.96 * numbers[:, 1], size, generator)
        mask[numbers[:, 2] < _WHOLE] = 1
        mask = mask[: len(source)]
        parts.append(_masked(block, mask, source, alternative, _generator(seed, 3, first)))
    return _concatenated(parts)


def held_out_images(images: TrainingImages, alternative: Alternative, seed: int) -> MaskedImages:
    """Each image whole and masked at each of `AREAS`, in the order of the images: 5 rows each.

    Args:
        images: What is masked.
        alternative: What replaces pixels.
        seed: Random seed.
    """
    parts = []
    areas = torch.tensor([1.0, *AREAS], dtype=torch.float32, device="cpu")
    for number in range(len(images)):
        generator = _generator(seed, 4, number)
        source = torch.full((len(areas),), number, device="cpu")
        block = images.images(source)
        mask = draw_masks(areas, (block.shape[2], block.shape[3]), generator, exact=True)
        mask[0] = 1
        parts.append(_masked(block, mask, source, alternative, generator))
    return _concatenated(parts)


def draw_masks(
    area: Tensor, size: tuple[int, int], generator: Generator, *, exact: bool = False
) -> Mask:
    """A random mask for each area, a grid or a blob, (n, 1, H, W) in [0, 1].

    Args:
        area: (n,) expected means of the masks, in (0, 1].
        size: Height and width in pixels.
        generator: All random numbers come from it, for all `n` at once.
        exact: Blobs only, whose mean is close to the area; a grid's cells are kept at random.
    """
    kinds: list[tuple[Callable[..., Mask], int]] = [(_blobs, side) for side in _BLOBS]
    if not exact:
        kinds += [(_grids, side) for side in _GRIDS]
    weights = torch.tensor(
        [1 / len(_BLOBS)] * len(_BLOBS) + [1 / len(_GRIDS)] * (len(kinds) - len(_BLOBS)),
        dtype=torch.float32,
        device="cpu",
    )
    chosen = torch.multinomial(weights, len(area), replacement=True, generator=generator)
    masks = torch.empty(len(area), 1, *size, dtype=torch.float32, device="cpu")
    for number, (make, side) in enumerate(kinds):
        # for all rows, so that no row depends on the kinds of the others
        numbers = torch.rand(
            len(area), side**2 + 2, generator=generator, dtype=torch.float32, device="cpu"
        )
        rows = (chosen == number).nonzero().flatten()
        if len(rows):
            masks[rows] = make(area[rows], size, side, numbers[rows])
    return masks.clamp(0, 1)


def _grids(area: Tensor, size: tuple[int, int], side: int, numbers: Tensor) -> Mask:
    grids = (numbers[:, :-2] < area[:, None]).float().view(-1, side, side)
    left, right = (
        upsampling_matrices(length, side, numbers[:, -1 - axis]) for axis, length in enumerate(size)
    )
    return (left @ grids @ right.transpose(1, 2))[:, None]


def _blobs(area: Tensor, size: tuple[int, int], side: int, numbers: Tensor) -> Mask:
    """A smooth random surface above the threshold that leaves the area, with a soft edge."""
    # normally distributed, except for the scale
    coarse = torch.erfinv((2 * numbers[:, :-2] - 1).clamp(-0.999, 0.999)).view(-1, 1, side, side)
    surface = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    step = max(1, min(size) // _SORTED)
    ordered = surface[:, 0, ::step, ::step].flatten(1).sort(1).values
    place = ((1 - area) * (ordered.shape[1] - 1)).round().long()
    height = ordered.gather(1, place[:, None]).view(-1, 1, 1, 1)
    edge = (_SOFT[0] + (_SOFT[1] - _SOFT[0]) * numbers[:, -1]).view(-1, 1, 1, 1) * ordered.std(
        1
    ).view(-1, 1, 1, 1)
    return torch.sigmoid((surface - height) / edge)


def _masked(
    images: Images, mask: Mask, source: Tensor, alternative: Alternative, generator: Generator
) -> MaskedImages:
    pixels = alternative.edit(images, mask, generator).clamp(0, 1) * 255
    return MaskedImages(pixels.round().to(torch.uint8), source, mask.mean((1, 2, 3)))


def _concatenated(parts: list[MaskedImages]) -> MaskedImages:
    names = ("pixels", "source", "area")
    return MaskedImages(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _generator(seed: int, use: int, number: int) -> Generator:
    return Generator().manual_seed(hash((seed, use, number)) & (2**62 - 1))
