"""LIME: a linear model of the classifier around one picture."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit import Alternative, BlackBox, InputError, Masker, MaskerOutput
from saliencykit.core import rng
from saliencykit.core.types import Images, Labels
from saliencykit_superpixel.asking import explained
from saliencykit_superpixel.flat import Flat
from saliencykit_superpixel.ridge import ridge
from saliencykit_superpixel.segments import check_cut

_FLAT = Flat()


@final
@dataclass(frozen=True, kw_only=True)
class Lime(Masker):
    """LIME: the linear model `g(z) = a + w z` of which superpixels `z` are kept that is most
    faithful near the whole picture.

    It minimises `sum_s pi(z_s) (f(z_s) - g(z_s))^2 + ridge |w|^2` over random sets `z_s`, where `f`
    is the label's probability, `pi(z) = exp(-D(z)^2 / width^2)` and `D` the cosine distance of `z`
    from the whole picture, `1 - sqrt(k / K)` for `k` of `K` superpixels. A superpixel's score is
    its weight: how much the probability rises with it. Near the whole picture a second object of
    the class makes the first one dispensable, and neither gets a weight; `superpixel-rise` looks
    further away.

    As published the number of superpixels that are kept is drawn uniformly, then which ones.
    Published, and left out: the choice of a few superpixels by K-Lasso; here all get a weight, and
    the mask shows the largest.

    Args:
        samples: Sets per picture besides the whole picture, each one evaluation, >= 1; several
            times `segments`.
        segments: About how many superpixels, >= 1.
        compactness: See `superpixels`.
        width: Of the kernel, > 0; 0.25 is that of the authors' package.
        ridge: The penalty on the weights, >= 0; 1 is that of the authors' package.
        alternative: What stands where superpixels are dropped; by default each one's mean colour,
            as in the authors' package.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> Lime(samples=32, segments=9)(black_box, *black_box.examples(2, generator=g), generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Ribeiro, Singh & Guestrin 2016, "Why Should I Trust You?", sections 3.3 (the sampling) and
        3.4, equation 2 and the kernel below it.
    """

    samples: int = 500
    segments: int = 50
    compactness: float = 10.0
    width: float = 0.25
    ridge: float = 1.0
    alternative: Alternative = _FLAT

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_cut(self, self.segments, self.compactness)
        if not isinstance(self.samples, int) or self.samples < 1:
            raise InputError(f"{self}: samples is a whole number >= 1.")
        if not (0 < self.width < float("inf") and 0 <= self.ridge < float("inf")):
            raise InputError(f"{self}: width is > 0 and ridge >= 0.")

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Weights in units of probability, and their positive part as the mask."""
        return explained(self, black_box, images, labels, generator)

    def sets(self, image: Images, count: int, generator: Generator) -> Tensor:
        """The whole picture, then sets of a random size, each size as likely."""
        numbers = (
            rng.uniform(image, (self.samples, count + 1), generator=generator)[0].double().cpu()
        )
        kept = (numbers[:, :1] * (count + 1)).floor().clamp_max(count)
        ranks = numbers[:, 1:].argsort(1).argsort(1)
        return torch.cat([torch.ones(1, count, dtype=torch.float64), (ranks < kept).double()])

    def solve(self, sets: Tensor, answers: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights of the regression under the kernel."""
        return ridge(sets, answers, kernel(sets, self.width), self.ridge)[0], None


def kernel(sets: Tensor, width: float) -> Tensor:
    """How near each set is to the whole picture, (n,) in (0, 1].

    Args:
        sets: (n, K) of zeros and ones.
        width: > 0.
    """
    distance = 1 - sets.mean(1).sqrt()
    return (-distance.square() / width**2).exp()
