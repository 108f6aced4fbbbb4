"""One thread, and a black box whose probability is linear in what is kept."""

from dataclasses import dataclass

import pytest
import torch

from saliencykit import BlackBox

torch.set_num_threads(1)  # small tensors: threads cost more than they bring


@dataclass(frozen=True)
class Stripes(BlackBox):
    """The probability of class 0 is `a + sum_j w_j * column_j`, the mean of each of four columns of
    a white 16 x 16 image.
    """

    weights: tuple[float, ...] = (0.4, 0.2, -0.1, 0.0)
    offset: float = 0.2

    num_classes = 2
    differentiable = False

    def logits(self, images):
        columns = images.mean(1).view(len(images), 16, 4, 4).mean((1, 3))
        p = (self.offset + columns @ columns.new_tensor(self.weights)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([p.log(), (1 - p).log()], 1)


@pytest.fixture
def stripes():
    return Stripes()


@pytest.fixture
def columns(monkeypatch):
    """The superpixels of every image are the four columns."""
    numbers = (torch.arange(16) // 4).expand(16, 16)
    for module in ("superpixel_masker", "flat"):
        monkeypatch.setattr(f"saliencykit_superpixel.{module}.superpixels", lambda *_: numbers)
    return numbers


@pytest.fixture
def white():
    return torch.ones(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
