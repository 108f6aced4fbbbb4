"""LIME: a linear model of the classifier in the neighborhood of one image."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit import InputError
from saliencykit.core import Images, rng
from saliencykit_superpixel.ridge import ridge
from saliencykit_superpixel.superpixel_masker import SuperpixelMasker


@final
@dataclass(frozen=True, kw_only=True)
class Lime(SuperpixelMasker):
    """LIME: the linear model `g(z) = a + w z` of kept superpixels `z` that is most faithful near
    the whole image.

    It minimizes `sum_s pi(z_s) (f(z_s) - g(z_s))^2 + ridge |w|^2` over random sets `z_s`, where `f`
    is the label's probability, `pi(z) = exp(-D(z)^2 / width^2)`, and `D` the cosine distance of `z`
    from the whole image, `1 - sqrt(k / K)` for `k` of `K` superpixels. The attribution of a
    superpixel is its weight: how much the probability rises with it. Near the whole image a second
    object of the class makes the first one dispensable, and neither gets a weight;
    `superpixel-rise` looks at smaller sets.

    As published, the number of kept superpixels is drawn uniformly, then which ones. The selection
    of a few superpixels by K-Lasso is left out: all of them get a weight.

    Args:
        samples: Sets per image besides the whole image, one query each, >= 1; should be several
            times `segments`.
        segments: Approximate number of superpixels, >= 1.
        compactness: See `superpixels`.
        alternative: What replaces dropped superpixels; by default the mean color of each, as in the
            authors' package.
        width: Width of the kernel, > 0; 0.25 in the authors' package.
        ridge: Penalty on the weights, >= 0; 1 in the authors' package.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Lime(samples=32, segments=9)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Ribeiro, Singh & Guestrin 2016, "Why Should I Trust You?", sections 3.3 (the sampling) and
        3.4, equation 2 and the kernel below it.
    """

    width: float = 0.25
    ridge: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        SuperpixelMasker.__post_init__(self)
        if not (0 < self.width < float("inf") and 0 <= self.ridge < float("inf")):
            raise InputError(f"{self}: width must be > 0 and ridge >= 0.")

    def draw_sets(self, image: Images, count: int, generator: Generator) -> Tensor:
        """The whole image, then sets of a uniformly random size."""
        numbers = rng.uniform(image, (self.samples, count + 1), generator=generator)[0]
        numbers = numbers.double().cpu()
        kept = (numbers[:, :1] * (count + 1)).floor().clamp_max(count)
        ranks = numbers[:, 1:].argsort(1).argsort(1)
        return torch.cat([kept.new_ones(1, count), (ranks < kept).double()])

    def fit(self, sets: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights of the regression under the kernel."""
        return ridge(sets, probabilities, kernel(sets, self.width), self.ridge)[0], None


def kernel(sets: Tensor, width: float) -> Tensor:
    """How close each set is to the whole image, (n,) in (0, 1].

    Args:
        sets: (n, K) zeros and ones.
        width: > 0.
    """
    distance = 1 - sets.mean(1).sqrt()
    return (-distance.square() / width**2).exp()
