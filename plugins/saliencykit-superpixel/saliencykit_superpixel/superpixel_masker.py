"""What the maskers on superpixels share: queries with random sets of superpixels kept, and a linear
model of the probabilities.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit import Alternative, BlackBox, InputError, Masker, MaskerOutput
from saliencykit.core import Images, Labels, Mask
from saliencykit.maskers import MaskedQueries, mask_from_attributions, masked_queries
from saliencykit_superpixel.flat import Flat
from saliencykit_superpixel.segments import check_segmentation, superpixels

_FLAT = Flat()
# of the largest p(label): smaller maps are rounding noise of float32
_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class SuperpixelMasker(Masker):
    """A masker that fits a linear model of p(label) to random sets of superpixels that are kept.

    The weight of a superpixel is its attribution; the mask is the positive part of the attributions
    divided by their maximum.

    Args:
        samples: Random sets per image, one query each, >= 1.
        segments: Approximate number of superpixels, >= 1.
        compactness: See `superpixels`.
        alternative: What replaces the superpixels that are dropped.

    Raises:
        InputError: A number is out of range.
    """

    samples: int = 500
    segments: int = 50
    compactness: float = 10.0
    alternative: Alternative = _FLAT

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_segmentation(self, self.segments, self.compactness)
        if not isinstance(self.samples, int) or self.samples < 1:
            raise InputError(f"{self}: samples must be an integer >= 1.")

    @abstractmethod
    def draw_sets(self, image: Images, count: int, generator: Generator) -> Tensor:
        """Which of the `count` superpixels each query keeps: (n, count) zeros and ones, float64."""

    @abstractmethod
    def fit(self, sets: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor | None]:
        """The attributions of the superpixels and, if known, their standard errors, (count,)."""

    @final
    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The linear model's weights, in units of probability, and their positive part."""
        every = masked_queries(black_box, images, labels, self.alternative, generator)
        maps, errors, floors = zip(*(self._explained(queries) for queries in every), strict=True)
        like = images.new_zeros((), dtype=torch.promote_types(images.dtype, torch.float32))
        attributions = torch.stack(maps)[:, None].to(like)
        error = None if errors[0] is None else torch.stack(errors)[:, None].to(like)
        mask = mask_from_attributions(attributions, like.new_tensor(floors) * _ROUNDING)
        return MaskerOutput(mask, attributions, error)

    def _explained(self, queries: MaskedQueries) -> tuple[Tensor, Tensor | None, float]:
        """Attributions and errors of one image, (H, W), and its largest p(label)."""
        image = queries.image
        regions = superpixels(image, self.segments, self.compactness)
        count, on_device = int(regions.max()) + 1, regions.to(image.device)
        sets = self.draw_sets(image, count, Generator().manual_seed(queries.seed))

        def masks(part: slice) -> Mask:
            return sets[part].to(image)[:, None, on_device]

        probabilities = queries.evidence(queries.logits(len(sets), masks)).double().cpu()
        weights, errors = self.fit(sets, probabilities)
        error = None if errors is None else errors[regions]
        return weights[regions], error, float(probabilities.abs().max())
