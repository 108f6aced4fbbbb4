"""RISE: random masks, and which pixels the good ones have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core import draw
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Found, Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.probing import mask_of_scores, micro_batch, probabilities, single_fill

_BLOCK = 256  # masks drawn at once, 52 kB; fixed, so that the draws do not depend on the box's micro-batch
_GROUPS = 8  # the samples are dealt to so many groups, whose spread is the error; divides _BLOCK
_ZERO = Constant(colour="zero")
_ROUNDING = 1e-5  # of the mean probability: a map below it says nothing, the answers are float32


@final
@dataclass(frozen=True, kw_only=True)
class Rise(Masker):
    """Random masks M_s, the label's probability y_s under each, and per pixel the covariance of the two.

    `scores = mean((y - mean y) * (M - mean M)) / keep`: the published map less `mean y * mean M / keep`, its value where a pixel
    makes no difference. Centring costs nothing and needs a quarter to two thirds of the masks for the same accuracy. Under sharp
    masks a score is the mean answer where the pixel is kept, less the mean answer. Needs only queries and finds several
    objects; the map is as coarse as the cells, and noisy: its `error` says how much.

    The mask is the positive part of the scores divided by its maximum. Memory does not depend on the number of samples: masks are
    made by two small matrix products per micro-batch, and added up without being kept.

    Args:
        samples: Masks per picture, each one evaluation, >= 2. The paper takes 4000 to 8000; with centring 1000 do as well.
        cells: Random cells per side, >= 1; the paper's 7.
        keep: The chance that a cell is kept, in (0, 1).
        alternative: What stands where cells are dropped. By default what the model's normalisation maps to 0, as published; one
            that draws (noise, a choice) is drawn once per picture.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing.boxes import PlantedEvidence
        >>> box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = box.examples(2, generator=g)
        >>> Rise(samples=32)(box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Petsiuk et al. 2018, "RISE", section 3, equations 6 and 7, and 3.2 for the masks.
    """

    samples: int = 1000
    cells: int = 7
    keep: float = 0.5
    alternative: Alternative = _ZERO

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not isinstance(self.samples, int) or self.samples < 2:
            raise InputError(f"Rise(samples={self.samples!r}): it takes a whole number of masks, at least 2.")
        if not isinstance(self.cells, int) or self.cells < 1:
            raise InputError(f"Rise(cells={self.cells!r}): it takes a whole number of cells per side, at least 1.")
        if not 0 < self.keep < 1:
            raise InputError(f"Rise(keep={self.keep}): the chance that a cell is kept is in (0, 1).")
        if not isinstance(self.alternative, Alternative):
            raise InputError(f"Rise(alternative={self.alternative!r}) takes an Alternative, such as Constant(colour='zero').")

    def mask(self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator) -> Found:
        """Scores with their standard error per position, and their positive part as the mask."""
        seed = draw.fork(generator).initial_seed()  # each picture starts from it, so that the others make no difference
        box, alternative = black_box.for_many(images), self.alternative.for_box(black_box)
        sums = [
            self._sums(box, image, label, alternative, seed) for image, label in zip(images[:, None], labels[:, None], strict=True)
        ]
        scores = torch.stack([s.covariance() for s in sums])[:, None] / self.keep
        error = torch.stack([s.error() for s in sums])[:, None] / self.keep
        floor = torch.stack([s.mean_answer() for s in sums]) * _ROUNDING
        return Found(mask_of_scores(scores, floor), scores, error)

    def _sums(self, box: BlackBox, image: Images, label: Tensor, alternative: Alternative, seed: int) -> "_Sums":
        generator = Generator().manual_seed(seed)
        height, width = image.shape[2:]
        edit = _editor(image, alternative, generator, seed)
        step, sums = micro_batch(box), _Sums(image)
        for first in range(0, self.samples, _BLOCK):
            drawn = draw.uniform(image, (_BLOCK, self.cells**2 + 2), generator=generator)[0, : self.samples - first]
            grids = (drawn[:, :-2] < self.keep).to(image.dtype).view(-1, self.cells, self.cells)
            left = _shifted(height, self.cells, drawn[:, -2]) @ grids
            right = _shifted(width, self.cells, drawn[:, -1]).transpose(1, 2)
            parts = [slice(at, at + step) for at in range(0, len(drawn), step)]
            sums.add(
                left, right, torch.cat([probabilities(box, edit((left[part] @ right[part])[:, None]), label) for part in parts])
            )
        return sums


def _shifted(side: int, cells: int, shifts: Tensor) -> Tensor:
    """The matrices that enlarge `cells` values to `side` pixels at each of the shifts in [0, 1), (n, side, cells).

    As published: bilinear to (cells + 1) * c pixels, where c is the size of a cell, and cut out at an offset of 0 to c.
    """
    size = ceil(side / cells)
    identity = torch.eye(cells, dtype=shifts.dtype, device=shifts.device)
    matrix = F.interpolate(identity[None], size=(cells + 1) * size, mode="linear", align_corners=False)[0].T
    offsets = (shifts * (size + 1)).long().clamp_max(size)
    return matrix[offsets[:, None] + torch.arange(side, device=shifts.device)]


def _editor(image: Images, alternative: Alternative, generator: Generator, seed: int) -> Callable[[Mask], Images]:
    """A function from masks (n, 1, H, W) to the picture's edits with them, (n, C, H, W)."""
    fill = single_fill(alternative, image, generator)
    if fill is None:
        return lambda masks: alternative.edit(
            image.expand(len(masks), -1, -1, -1), masks.clamp(0, 1), Generator().manual_seed(seed)
        )
    difference = image - fill
    # `compose` as fill + mask * (image - fill): one pass over memory instead of four
    return lambda masks: torch.addcmul(fill, difference, masks)


class _Sums:
    """Running sums over samples, in groups; from them the covariance of answers and masks, and its error."""

    def __init__(self, image: Images) -> None:
        shape = image.shape[2:]
        self.reference: Tensor | None = None
        self.count = image.new_zeros(_GROUPS, 1, 1)
        self.answers = image.new_zeros(_GROUPS, 1, 1)
        self.masks = image.new_zeros(shape)
        self.products = image.new_zeros(_GROUPS, *shape)

    def add(self, left: Tensor, right: Tensor, answers: Tensor) -> None:
        """Add the samples whose masks are `left @ right`; sample i goes to group i modulo the number of groups."""
        if self.reference is None:
            self.reference = answers.mean()  # sums of differences from about the mean keep their digits in float32
        above = answers - self.reference
        # sum_s y_s * left_s @ right_s is one product of the factors side by side: no mask is made again
        self.masks += _side_by_side(left) @ right.flatten(0, 1)
        weighted = left * above[:, None, None]
        for group in range(min(_GROUPS, len(answers))):
            mine = slice(group, None, _GROUPS)
            self.products[group] += _side_by_side(weighted[mine]) @ right[mine].flatten(0, 1)
            self.answers[group] += above[mine].sum()
            self.count[group] += len(above[mine])

    def mean_answer(self) -> Tensor:
        """The mean probability, a scalar."""
        mean = self.answers.sum() / self.count.sum()
        return mean if self.reference is None else mean + self.reference

    def covariance(self) -> Tensor:
        """`mean((y - mean y) * (M - mean M))`, (H, W)."""
        return torch.div(self._groups().sum(0), self.count.sum())

    def error(self) -> Tensor:
        """The covariance's standard error per pixel, from the spread of the groups' means, (H, W)."""
        used = self.count.flatten() > 0
        means = self._groups()[used] / self.count[used]
        return torch.div(means.std(0), len(means) ** 0.5)

    def _groups(self) -> Tensor:
        """`sum over the group of (y - reference) * (M - mean M)`, (groups, H, W); over all groups the reference cancels out."""
        return self.products - self.answers * self.masks / self.count.sum()


def _side_by_side(factors: Tensor) -> Tensor:
    return factors.transpose(0, 1).flatten(1)
