"""RISE on superpixels: random sets of superpixels, and which of them the good ones have in common."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit import Alternative, BlackBox, InputError, Masker, MaskerOutput
from saliencykit.alternatives.constant import Constant
from saliencykit.core import rng
from saliencykit.core.types import Images, Labels
from saliencykit_superpixel.asking import explained
from saliencykit_superpixel.ridge import ridge
from saliencykit_superpixel.segments import check_cut

_ZERO = Constant(color="zero")


@final
@dataclass(frozen=True, kw_only=True)
class SuperpixelRise(Masker):
    """RISE with the picture's own regions in place of a grid: random sets `z` of superpixels, the
    label's probability `y` for each.

    `score_j = Cov(y, z_j) / keep`, as for saliencykit's `rise`: the mean answer with superpixel `j`
    kept, less the mean answer. The edges are the picture's, so a map is sharp where `rise` is
    blurred, and wrong where the cut is: an object that is like its background shares superpixels
    with it. Sharp edges of replaced regions are evidence of their own to many classifiers.

    Sets come in opposite pairs, and the covariance is that of a ridge regression of `y` on `z`,
    whose own covariance is known: `Cov(y, z_j) = keep (1 - keep) g_j`. Ten times as many samples as
    superpixels are enough.

    Args:
        samples: Sets per picture, each one evaluation, >= 2.
        segments: About how many superpixels, >= 1.
        compactness: See `superpixels`.
        keep_prob: The chance that a superpixel is kept, in (0, 1).
        alternative: What stands where superpixels are dropped; by default what the model's
            normalisation maps to 0.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> SuperpixelRise(samples=32, segments=9)(black_box, *black_box.examples(2, generator=g), generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Petsiuk et al. 2018, "RISE", section 3, equations 6 and 7, for the covariance; superpixels
        as what is switched off are Ribeiro et al. 2016, "Why Should I Trust You?", section 3.1.
    """

    samples: int = 500
    segments: int = 50
    compactness: float = 10.0
    keep_prob: float = 0.5
    alternative: Alternative = _ZERO

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_cut(self, self.segments, self.compactness)
        if not isinstance(self.samples, int) or self.samples < 2 or not 0 < self.keep_prob < 1:
            raise InputError(f"{self}: samples is a whole number >= 2 and keep is in (0, 1).")

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Scores in units of probability with their standard error, and their positive part as the
        mask.
        """
        return explained(self, black_box, images, labels, generator)

    def sets(self, image: Images, count: int, generator: Generator) -> Tensor:
        """In pairs of a set and the one that mirrored draws give."""
        uniform = (
            rng.uniform(image, ((self.samples + 1) // 2, count), generator=generator)[0]
            .double()
            .cpu()
        )
        return (
            torch.stack([uniform, 1 - uniform], 1)
            .flatten(0, 1)[: self.samples]
            .lt(self.keep_prob)
            .double()
        )

    def solve(self, sets: Tensor, answers: Tensor) -> tuple[Tensor, Tensor | None]:
        """`(1 - keep)` times the slopes of a ridge regression."""
        slopes, errors = ridge(sets, answers, torch.ones_like(answers))
        return (1 - self.keep_prob) * slopes, (1 - self.keep_prob) * errors
