"""A black box that is a formula, in torch and in numpy, and helpers that score masks."""

import numpy as np
import pytest
import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Sample


class Weighing(BlackBox):
    """Three classes: weighted sums of the pixels, for images of any size up to 24 x 24."""

    num_classes, differentiable = 3, False
    baseline_color = (0.4, 0.5, 0.6)

    def __init__(self):
        self.weights = torch.randn(
            3, 3, 24, 24, generator=torch.Generator().manual_seed(5), dtype=torch.float64
        )
        self.batch_sizes = []

    def logits(self, images):
        self.batch_sizes.append(len(images))
        weights = self.weights[..., : images.shape[2], : images.shape[3]].to(images.dtype)
        return torch.einsum("bchw,kchw->bk", images, weights) / images.shape[2] ** 0.5

    def p(self, image, label):
        """The label's probability in one image (C, H, W), in numpy."""
        weights = self.weights.numpy()[..., : image.shape[1], : image.shape[2]]
        z = (weights * image).sum((1, 2, 3)) / image.shape[1] ** 0.5
        return (np.exp(z) / np.exp(z).sum())[label]

    def top(self, image):
        return int(np.argmax([self.p(image, label) for label in range(3)]))


@pytest.fixture
def weighing():
    return Weighing()


@pytest.fixture
def scores_of():
    """`scores_of(metric, black_box, images, labels, mask)`: the scores by name."""

    def score(metric, black_box, images, labels, mask, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return metric(
            black_box,
            Sample(images, labels),
            mask,
            explain=lambda images, labels: mask,
            generator=generator,
        )

    return score


@pytest.fixture
def some():
    """Four 11 x 14 images in float64, labels, and maps with plateaus, one of them constant."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 11, 14, generator=generator, dtype=torch.float64)
    maps = torch.rand(4, 1, 11, 14, generator=generator, dtype=torch.float64)
    maps[1] = (maps[1] * 4).floor() / 4
    maps[2] = (maps[2] > 0.7).double()
    maps[3] = 0.5
    return images, torch.tensor([0, 1, 2, 1]), maps


@pytest.fixture
def order():
    """`order(map)`: the pixels (y, x) of one map (H, W), best first, sorted by
    Python.
    """

    def sort(values):
        height, width = values.shape
        pixels = [(y, x) for y in range(height) for x in range(width)]
        return sorted(
            pixels,
            key=lambda at: (
                -values[at],
                (2 * at[0] - height + 1) ** 2 + (2 * at[1] - width + 1) ** 2,
            ),
        )

    return sort


@pytest.fixture
def chosen(order):
    """`chosen(map, count)`: 1 on the best `count` pixels, (H, W)."""

    def pick(values, count):
        mask = np.zeros(values.shape)
        for at in order(values)[:count]:
            mask[at] = 1
        return mask

    return pick
