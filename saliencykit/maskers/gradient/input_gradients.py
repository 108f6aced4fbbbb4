"""Gradient maskers: the gradient, input x gradient, integrated gradients and SmoothGrad."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.query_batches import in_batches
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.gradient.pixel_attribution import (
    Channels,
    PixelAttribution,
    Sign,
    baseline_pixel,
    batch_size_of,
    input_gradient,
    reduce_channels,
)

# noisy copies drawn at once, 5 MB at 224 px; fixed: the noise must not depend on `max_batch_size`
_BLOCK = 8


@final
@dataclass(frozen=True, kw_only=True)
class Gradient(PixelAttribution):
    """The gradient of the label's logit with respect to the pixels: where a small change matters
    most.

    One forward and one backward pass. Noisy, and sensitive to edges more than to objects.

    Args:
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Gradient()(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3.1.
    """

    def evaluations(self, black_box: BlackBox, images: Images) -> int:
        """One."""
        return 1

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The gradient, (B, C, H, W)."""
        who = f"the gradient of {name_of(black_box)}"
        return input_gradient(black_box, images, labels, batch_size_of(black_box, images), who)


@final
@dataclass(frozen=True, kw_only=True)
class InputXGradient(PixelAttribution):
    """The gradient times the pixel's difference from the color that normalization maps to 0.

    One forward and one backward pass. A first-order share of the logit: noisy like the gradient,
    and 0 where the image has that color.

    Args:
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Example:
        >>> InputXGradient().channels
        'sum'

    References:
        Shrikumar et al. 2016, "Not Just a Black Box"; Ancona et al. 2018, section 2.
    """

    sign: Sign = "positive"
    channels: Channels = "sum"

    def evaluations(self, black_box: BlackBox, images: Images) -> int:
        """One."""
        return 1

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The product, (B, C, H, W)."""
        gradient = Gradient().attribution(black_box, images, labels, generator)
        return gradient * (images - baseline_pixel(black_box, images))


@final
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(PixelAttribution):
    """The pixel's difference from a baseline times the mean gradient on the straight path from it.

    The attributions sum to the difference of the logit between the image and the baseline. The
    baseline is the color that the model's normalization maps to 0, so pixels of that color get
    nothing. `steps` forward and backward passes, on an optimized copy of the model; less noisy than
    a single gradient.

    Args:
        steps: Points on the path (Gauss-Legendre quadrature), >= 1; 20 to 300 in the paper.
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Raises:
        InputError: `steps` is not a whole number >= 1.

    Example:
        >>> IntegratedGradients(steps=20)
        IntegratedGradients(sign='positive', channels='sum', steps=20)

    References:
        Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", sections 3 and 5.
    """

    steps: Annotated[int, "[1, inf)"] = 50
    sign: Sign = "positive"
    channels: Channels = "sum"

    def evaluations(self, black_box: BlackBox, images: Images) -> int:
        """One for each step."""
        return self.steps

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The integral times the difference, (B, C, H, W)."""
        black_box = self.prepared(black_box, images, self.steps)
        baseline, size = baseline_pixel(black_box, images), batch_size_of(black_box, images)
        nodes, shares = np.polynomial.legendre.leggauss(self.steps)  # on [-1, 1]
        points = images.new_tensor((1 + nodes) / 2).view(-1, 1, 1, 1)
        weights = images.new_tensor(shares / 2).view(-1, 1, 1, 1)
        integrals = torch.zeros_like(images)
        for row, difference in enumerate(images - baseline):
            for point, weight in in_batches(size, points, weights):
                given = (baseline + point * difference, labels[row].expand(len(point)))
                slope = Gradient().attribution(black_box, *given, generator)
                integrals[row] += (weight * slope).sum(0)
        return integrals * (images - baseline)


@final
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Masker):
    """The mean of a gradient map over noisy copies of the image.

    `samples` forward and backward passes, on an optimized copy of the model. Clearer than a single
    gradient, still finer than objects. Signed maps are averaged.

    Args:
        samples: Noisy copies per image, >= 1; the paper finds little change beyond 50.
        noise: Standard deviation of the noise as a fraction of the image's range (its largest value
            minus its smallest), > 0; 0.1 to 0.2 in the paper.
        method: The method to average. Its `sign` and `channels` turn scores into the mask.

    Raises:
        InputError: A number is out of range, or `method` is not a `PixelAttribution`.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> SmoothGrad(samples=4)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Smilkov et al. 2017, "SmoothGrad", section 3.
    """

    samples: Annotated[int, "[1, inf)"] = 50
    noise: Annotated[float, "(0, inf)"] = 0.15
    method: PixelAttribution = field(default_factory=Gradient)

    needs_gradient: ClassVar[bool] = True

    def evaluations(self, black_box: BlackBox, images: Images) -> int | None:
        """As many as the averaged method takes, for each sample."""
        one = self.method.evaluations(black_box, images)
        return None if one is None else self.samples * one

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mean of the signed maps, and the mask by the rules of the averaged method."""
        seed = rng.seed(generator)
        black_box = self.method.prepared(black_box, images, self.samples)
        rows = in_batches(1, images, labels)
        maps = torch.cat([self._mean(black_box, image, label, seed) for image, label in rows])
        return reduce_channels(maps, images, self.method.sign, self.method.channels)

    def _mean(self, black_box: BlackBox, image: Images, label: Labels, seed: int) -> Tensor:
        generator, sums = Generator().manual_seed(seed), []
        std = self.noise * float(image.amax() - image.amin())
        for first in range(0, self.samples, _BLOCK):
            noise = rng.normal(image, (_BLOCK, *image.shape[1:]), generator=generator, std=std)[0]
            copies = image + noise[: self.samples - first]
            maps = self.method.attribution(
                black_box, copies, label.expand(len(copies)), Generator().manual_seed(seed)
            )
            sums.append(maps.sum(0, keepdim=True))
        return torch.stack(sums).sum(0) / self.samples
