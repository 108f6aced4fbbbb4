"""Tiny classifiers, one for each kind of feature map and head."""

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox

CLASSES, SIDE = 5, 32


def _steps(*widths):
    layers, before = [], 3
    for width in widths:
        layers.append(
            nn.Sequential(
                nn.Conv2d(before, width, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
        )
        before = width
    return layers


class Convolutional(nn.Module):
    """Pooling and one linear layer: exact class weights. Batch norms, in-place ReLUs."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(*_steps(8, 12, 16))
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.fc(self.stages(x).mean((2, 3)))


class Pointwise(nn.Module):
    """A 1x1 convolution after the pooling, as in BiT and DLA: exact class weights."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(*_steps(8, 12, 16))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(16, CLASSES, 1)

    def forward(self, x):
        return self.fc(self.pool(self.stages(x))).flatten(1)


class Squeezed(nn.Module):
    """A 1x1 convolution, ReLU, then pooling: exact class weights of another kind."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(*_steps(8, 12, 16))
        self.final = nn.Conv2d(16, CLASSES, 1)
        nn.init.constant_(self.final.bias, 3.0)  # so that the ReLU changes nothing

    def forward(self, x):
        return self.final(self.stages(x)).relu().mean((2, 3))


class ChannelsLast(nn.Module):
    """Swin's layout, (B, h, w, C), pooled: exact class weights."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.block = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.GELU())
        self.merge = nn.Linear(48, 20)
        self.norm = nn.LayerNorm(20)
        self.head = nn.Linear(20, CLASSES)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        x = x + self.block(x)
        x = self.merge(torch.cat([x[:, a::2, b::2] for a in (0, 1) for b in (0, 1)], -1))
        return self.head(self.norm(x).mean((1, 2)))


class Tokens(nn.Module):
    """A small transformer with a class token, or with the mean of all tokens."""

    def __init__(self, class_token):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16)) if class_token else None
        layers = [
            nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(3)
        ]
        self.blocks = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x.mean(1) if self.token is None else x[:, 0])


class Flattened(nn.Module):
    """Two linear layers on a flattened map, as VGG: class weights are estimated."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(*_steps(8, 12))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, CLASSES))

    def forward(self, x):
        return self.classifier(self.pool(self.stages(x)).flatten(1))


MAKERS = {
    "convolutional": Convolutional,
    "pointwise": Pointwise,
    "squeezed": Squeezed,
    "channels-last": ChannelsLast,
    "class-token": lambda: Tokens(True),
    "mean-token": lambda: Tokens(False),
    "flattened": Flattened,
}


@pytest.fixture
def net():
    """`net(name)`: a black box of 5 classes, a tiny net with random weights and batch norm
    statistics.
    """

    def make(name: str, seed: int = 0, **options) -> BlackBox:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = MAKERS[name]()
            with torch.no_grad():
                for _ in range(3):
                    # in training mode: batch norms get statistics
                    model(torch.rand(8, 3, SIDE, SIDE) * 2 - 0.5)
        return TorchBlackBox(model.eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIDE, **options)

    return make


@pytest.fixture
def photos():
    """`images(n)`: smooth images, so that maps differ over positions."""

    def make(n: int, side: int = SIDE, seed: int = 0) -> torch.Tensor:
        small = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        return nn.functional.interpolate(small, size=(side, side), mode="bilinear").contiguous()

    return make
