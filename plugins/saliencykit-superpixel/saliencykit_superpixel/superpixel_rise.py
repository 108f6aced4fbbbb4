"""RISE on superpixels: how the probability covaries with each superpixel of random sets."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit import Alternative, InputError
from saliencykit.alternatives import Constant
from saliencykit.core import Images, rng
from saliencykit_superpixel.ridge import ridge
from saliencykit_superpixel.superpixel_masker import SuperpixelMasker

_BASELINE = Constant(color="zero")


@final
@dataclass(frozen=True, kw_only=True)
class SuperpixelRise(SuperpixelMasker):
    """RISE with the superpixels of the image instead of a grid: random sets `z`, and the label's
    probability `y` under each.

    The attribution is `Cov(y, z_j) / keep_prob`, as for saliencykit's `rise`: the mean probability
    with superpixel `j` kept, minus the mean probability. The edges are those of the image, so a map
    is sharp where that of `rise` is blurred, and wrong where the segmentation is: an object that
    resembles its background shares superpixels with it. To many classifiers the sharp edges of
    replaced regions are evidence of their own.

    Sets come in antithetic pairs, and the covariance is that of a ridge regression of `y` on `z`,
    whose own covariance is known: `Cov(y, z_j) = keep_prob (1 - keep_prob) g_j`. Ten times as many
    samples as superpixels are enough.

    Args:
        samples: Sets per image, one query each, >= 2.
        segments: Approximate number of superpixels, >= 1.
        compactness: See `superpixels`.
        alternative: What replaces dropped superpixels; by default the color that the model's
            normalization maps to 0.
        keep_prob: Probability that a superpixel is kept, in (0, 1).

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> SuperpixelRise(samples=32, segments=9)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Petsiuk et al. 2018, "RISE", section 3, equations 6 and 7, for the covariance; superpixels
        that are switched off: Ribeiro et al. 2016, "Why Should I Trust You?", section 3.1.
    """

    alternative: Alternative = _BASELINE
    keep_prob: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        SuperpixelMasker.__post_init__(self)
        if self.samples < 2 or not 0 < self.keep_prob < 1:
            raise InputError(f"{self}: samples must be >= 2 and keep_prob in (0, 1).")

    def draw_sets(self, image: Images, count: int, generator: Generator) -> Tensor:
        """Antithetic pairs of sets."""
        pairs = (self.samples + 1) // 2
        uniform = rng.uniform(image, (pairs, count), generator=generator)[0].double().cpu()
        both = torch.stack([uniform, 1 - uniform], 1).flatten(0, 1)[: self.samples]
        return (both < self.keep_prob).double()

    def fit(self, sets: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor | None]:
        """`(1 - keep_prob)` times the slopes of a ridge regression."""
        slopes, errors = ridge(sets, probabilities, torch.ones_like(probabilities))
        return (1 - self.keep_prob) * slopes, (1 - self.keep_prob) * errors
