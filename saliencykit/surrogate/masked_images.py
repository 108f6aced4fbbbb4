"""Masked pictures that a box is asked about: whole ones, grids of cells, and blobs."""

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
"""The kept areas that a surrogate is judged at, beside whole pictures."""
_CELLS = (3, 4, 6, 8)  # a side of a grid; few, as large as objects are, and more
_BLOBS = (3, 5, 8)  # numbers a side that a blob is enlarged from
_SOFT = (0.02, 0.6)  # width of a blob's edge, in standard deviations of what it is cut from
_SORTED = 32  # pixels a side that the height of a cut is found from
_WHOLE = 0.2  # share of training pictures that are not masked: what users ask about first
_CROPPED = 0.5  # share of them that are a crop or its mirror image, so that few pictures go further
_BLOCK = (
    64  # pictures that are drawn together; fixed, so that they do not depend on how many are wanted
)


@final
@dataclass(frozen=True)
class MaskedImages:
    """Pictures as a box is asked about them, with 8 bits a value: what is kept here is what the box
    sees, to the bit.

    Attributes:
        pixels: (Q, C, H, W) uint8.
        picture: (Q,) which picture each was made of.
        area: (Q,) the mean of its mask; 1 for a whole picture.
    """

    pixels: Tensor
    picture: Tensor
    area: Tensor

    def __len__(self) -> int:
        """Q."""
        return len(self.pixels)

    def images(self, index: Tensor) -> Images:
        """Raw pixels in [0, 1] of some."""
        return self.pixels[index].float() / 255


def training_pictures(
    pictures: TrainingImages, count: int, alternative: Alternative, seed: int
) -> MaskedImages:
    """Masked pictures to learn from; the first of them are the same for every count.

    Every picture is used once before any is used again. A fifth is whole; the others keep a share
    of 2 to 98 % in grids of cells and in blobs, half and half.

    Args:
        pictures: What is masked.
        count: How many masked pictures, >= 1.
        alternative: What replaces pixels.
        seed: Of everything that is drawn.

    References:
        Grids: Petsiuk et al. 2018, "RISE", section 3.2.
    """
    parts: list[MaskedImages] = []
    rounds = -(-count // len(pictures))
    orders = [
        torch.randperm(len(pictures), generator=_generator(seed, 1, number))
        for number in range(rounds)
    ]
    order = torch.cat(orders)[:count]
    for first in range(0, count, _BLOCK):
        generator = _generator(seed, 2, first)
        numbers = torch.rand(_BLOCK, 3, generator=generator)
        picture = order[first : first + _BLOCK]
        turn = torch.arange(first, first + len(picture)) // len(pictures) + 1
        view = torch.where(numbers[: len(picture), 0] < _CROPPED, turn, 0)
        images = Views(pictures, picture, view, seed).images(torch.arange(len(picture)))
        mask = draw_masks(
            0.02 + 0.96 * numbers[:, 1], (images.shape[2], images.shape[3]), generator
        )
        mask[numbers[:, 2] < _WHOLE] = 1
        mask = mask[: len(picture)]
        parts.append(_asked(images, mask, picture, alternative, _generator(seed, 3, first)))
    return _joined(parts)


def held_out_pictures(
    pictures: TrainingImages, alternative: Alternative, seed: int
) -> MaskedImages:
    """Each picture whole, and masked at each of `AREAS`, in the order of the pictures: 5 rows each.

    Args:
        pictures: What is masked.
        alternative: What replaces pixels.
        seed: Of everything that is drawn.
    """
    parts = []
    for number in range(len(pictures)):
        generator = _generator(seed, 4, number)
        picture = torch.full((1 + len(AREAS),), number)
        images = pictures.images(picture)
        mask = draw_masks(
            torch.tensor([1.0, *AREAS]), (images.shape[2], images.shape[3]), generator, exact=True
        )
        mask[0] = 1
        parts.append(_asked(images, mask, picture, alternative, generator))
    return _joined(parts)


def draw_masks(
    kept: Tensor, size: tuple[int, int], generator: Generator, *, exact: bool = False
) -> Mask:
    """A random mask for each wanted share, a grid of cells or a blob, (n, 1, H, W) in [0, 1].

    Args:
        kept: (n,) wanted means of the masks, in (0, 1].
        size: Height and width in pixels.
        generator: Everything is drawn from it, for all `n` at once.
        exact: Blobs only, whose mean is close to what is wanted; each cell of a grid is kept or not
            by chance.
    """
    kinds: list[tuple[Callable[..., Mask], int]] = [(_blobs, side) for side in _BLOBS]
    if not exact:
        kinds += [(_grids, cells) for cells in _CELLS]
    weights = torch.tensor(
        [1 / len(_BLOBS)] * len(_BLOBS) + [1 / len(_CELLS)] * (len(kinds) - len(_BLOBS))
    )
    chosen = torch.multinomial(weights, len(kept), replacement=True, generator=generator)
    masks = torch.empty(len(kept), 1, *size)
    for number, (make, side) in enumerate(kinds):
        # for all, so that no row depends on what others drew
        numbers = torch.rand(len(kept), side**2 + 2, generator=generator)
        rows = (chosen == number).nonzero().flatten()
        if len(rows):
            masks[rows] = make(kept[rows], size, side, numbers[rows])
    return masks.clamp(0, 1)


def _grids(kept: Tensor, size: tuple[int, int], cells: int, numbers: Tensor) -> Mask:
    grids = (numbers[:, :-2] < kept[:, None]).float().view(-1, cells, cells)
    left, right = (
        upsampling_matrices(side, cells, numbers[:, -1 - axis]) for axis, side in enumerate(size)
    )
    return (left @ grids @ right.transpose(1, 2))[:, None]


def _blobs(kept: Tensor, size: tuple[int, int], side: int, numbers: Tensor) -> Mask:
    """A smooth random surface, cut at the height that leaves the wanted share, with an edge of
    random width.
    """
    # normal, but for its scale
    coarse = torch.erfinv((2 * numbers[:, :-2] - 1).clamp(-0.999, 0.999)).view(-1, 1, side, side)
    surface = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    step = max(1, min(size) // _SORTED)
    ordered = surface[:, 0, ::step, ::step].flatten(1).sort(1).values
    place = ((1 - kept) * (ordered.shape[1] - 1)).round().long()
    height = ordered.gather(1, place[:, None]).view(-1, 1, 1, 1)
    edge = (_SOFT[0] + (_SOFT[1] - _SOFT[0]) * numbers[:, -1]).view(-1, 1, 1, 1) * ordered.std(
        1
    ).view(-1, 1, 1, 1)
    return torch.sigmoid((surface - height) / edge)


def _asked(
    images: Images, mask: Mask, picture: Tensor, alternative: Alternative, generator: Generator
) -> MaskedImages:
    edited = alternative.edit(images, mask, generator)
    return MaskedImages(
        (edited.clamp(0, 1) * 255).round().to(torch.uint8), picture, mask.mean((1, 2, 3))
    )


def _joined(parts: list[MaskedImages]) -> MaskedImages:
    return MaskedImages(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("pixels", "picture", "area")
        )
    )


def _generator(seed: int, use: int, number: int) -> Generator:
    return Generator().manual_seed(hash((seed, use, number)) & (2**62 - 1))
