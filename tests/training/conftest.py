"""A classifier of a few hundred weights with a trunk."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox

SIDE = 32


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x).relu()


class Small(nn.Module):
    """Four stages with batch norms and in-place rectifiers, a residual step, pooling, a linear
    head.
    """

    def __init__(self):
        super().__init__()
        widths = (3, 8, 8, 16, 16)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, 1 + i % 2, 1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(inplace=True),
                )
                for i, (a, b) in enumerate(pairwise(widths))
            )
        )
        self.more = Residual()
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.more(self.stages(x)).mean((2, 3)))


@pytest.fixture
def trunk_black_box():
    """`trunk_black_box(**options)`: around `Small`, random weights that have seen something."""

    def make(seed: int = 0, **options) -> TorchBlackBox:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            model = Small()
            for _ in range(3):
                model(torch.rand(8, 3, SIDE, SIDE) * 2 - 0.5)
        return TorchBlackBox(model.eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIDE, **options)

    return make
