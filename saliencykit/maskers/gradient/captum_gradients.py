"""The classic gradient methods by name: each is one of Captum's, with the setting and the rule from
scores to mask that suit it.
"""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import whole_numbers
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.gradient.captum_binding import Bound, seeded
from saliencykit.maskers.gradient.captum_method import AttributionMasker, found

# noises drawn at once, 5 MB at 224 px; fixed, so that the draws do not depend on the box's
# micro-batch
_BLOCK = 8


def gradient() -> AttributionMasker:
    """The gradient of the label's logit with respect to the pixels: where a small change makes the
    most difference.

    One forward and one backward pass. Scattered over the picture, and of edges more than of
    objects. The score is the gradient in the channel where it is largest, the mask its magnitude: a
    gradient's sign only says whether brighter or darker.

    Raises:
        InputError: Captum is not installed.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> gradient()(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3.1.
    """
    return AttributionMasker(method="Saliency", options={"abs": False})


def input_x_gradient() -> AttributionMasker:
    """The gradient times the pixel's difference from the colour that normalising maps to 0: a
    first-order share of the logit.

    One forward and one backward pass. Scattered like the gradient, and 0 where the picture has that
    colour. The score is the sum over channels, the mask its positive part: what is positive speaks
    for the label.

    Raises:
        InputError: Captum is not installed.

    Example:
        >>> input_x_gradient().channels
        'sum'

    References:
        Shrikumar et al. 2016, "Not Just a Black Box"; Ancona et al. 2018, section 2.
    """
    return AttributionMasker(method="InputXGradient", sign="positive", channels="sum")


def integrated_gradients(*, steps: int = 50) -> AttributionMasker:
    """The gradient times the difference to a baseline, averaged on the way from it: its sum is the
    logit's own difference.

    The baseline is the colour that the model's normalisation maps to 0. `steps` forward and
    backward passes, on a frozen copy in small batches. Less scattered than one gradient; what has
    the baseline's colour still gets nothing. The score is the sum over channels, the mask its
    positive part: what is positive speaks for the label.

    Args:
        steps: Points on the way (Gauss-Legendre), >= 1; 20 to 300 in the paper.

    Raises:
        InputError: `steps` is no whole number >= 1, or Captum is not installed.

    Example:
        >>> integrated_gradients(steps=20).options
        {'n_steps': 20}

    References:
        Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", section 3 and 5.
    """
    if not isinstance(steps, int) or steps < 1:
        raise InputError(
            f"integrated_gradients(steps={steps!r}): it takes a whole number of steps, at least 1."
        )
    return AttributionMasker(
        method="IntegratedGradients", sign="positive", channels="sum", options={"n_steps": steps}
    )


@final
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Masker):
    """The mean of a gradient map over copies of the picture with noise: what of it is not an
    accident of that picture.

    `samples` forward and backward passes, on a frozen copy in small batches. Clearer than one
    gradient, still finer than objects. Signed maps are averaged; the score is the channel of
    largest magnitude, and the mask its magnitude, as for the gradient.

    Args:
        samples: Noisy copies per picture, >= 1; the paper finds little change beyond 50.
        noise: Standard deviation of the noise in shares of the picture's own range, its brightest
            value less its darkest, > 0; the paper's 0.1 to 0.2.
        method: The method that is averaged; its `sign` and `channels` are the rule from scores to mask.

    Raises:
        InputError: A number is out of range, or Captum is not installed.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> SmoothGrad(samples=4)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Smilkov et al. 2017, "SmoothGrad", section 3.
    """

    samples: int = 50
    noise: float = 0.15
    method: AttributionMasker = field(default_factory=gradient)

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        whole_numbers(self, "samples")
        if not 0 < self.noise < float("inf"):
            raise InputError(
                f"SmoothGrad(noise={self.noise}): it is a share of the picture's range, > 0, such "
                "as 0.15."
            )
        if not isinstance(self.method, AttributionMasker):
            raise InputError(
                f"SmoothGrad(of={self.method!r}) averages an AttributionMasker, such as gradient()."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mean of the signed maps, and the mask by the rule of the method that is averaged."""
        seed = rng.seed(generator)
        black_box = black_box if self.method.reads_layers else black_box.optimized_for(images)
        bound = self.method.bound(black_box, images)
        with seeded(seed, images.device):  # should the averaged method draw as well
            maps = [
                self._mean(bound, image, label, seed)
                for image, label in zip(images[:, None], labels[:, None], strict=True)
            ]
        return found(torch.cat(maps), self.method.sign, self.method.channels)

    def _mean(self, bound: Bound, image: Images, label: Labels, seed: int) -> Tensor:
        generator, sums = Generator().manual_seed(seed), []
        std, size = (
            self.noise * float(image.amax() - image.amin()),
            min(bound.images_at_once, _BLOCK),
        )
        for first in range(0, self.samples, _BLOCK):
            drawn = rng.normal(image, (_BLOCK, *image.shape[1:]), generator=generator, std=std)[
                0, : self.samples - first
            ]
            for at in range(0, len(drawn), size):
                some = drawn[at : at + size] + image
                sums.append(bound(some, label.expand(len(some))).sum(0, keepdim=True))
        return torch.stack(sums).sum(0) / self.samples
