"""Helpers that many tests share."""

import csv
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox


def seeded(seed: int = 0) -> torch.Generator:
    """A CPU generator with this seed."""
    return torch.Generator().manual_seed(seed)


def fixed(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network for inference whose weights depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def table_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def padded(sides: tuple[int, int, int, int], *, depth: int = 4, size: int = 64) -> TorchBlackBox:
    """Strided convolutions of positive, symmetric kernels, padded on the given sides."""
    layers: list[nn.Module] = []
    before = 3
    for _ in range(depth):
        convolution = nn.Conv2d(before, 4, 3, 2, bias=False)
        nn.init.constant_(convolution.weight, 1 / (9 * before))
        layers += [nn.ZeroPad2d(sides), convolution, nn.ReLU()]
        before = 4
    head = nn.Linear(4, 2)
    head.weight = nn.Parameter(torch.tensor([[1.0] * 4, [-1.0] * 4]))
    nn.init.zeros_(head.bias)
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    return TorchBlackBox(net, size=size)


def spots(size: int = 64) -> tuple[Tensor, Tensor]:
    """Four images of one bright square each, and the centers of the squares."""
    images = torch.zeros(4, 3, size, size)
    for image, (y, x) in zip(images, ((20, 20), (28, 40), (44, 24), (36, 36)), strict=True):
        image[:, y - 4 : y + 4, x - 4 : x + 4] = 1
    return images, torch.tensor([[20.0, 20], [28, 40], [44, 24], [36, 36]])


def centers(masks: Tensor) -> Tensor:
    """The centers of mass of square masks in pixels, down and right."""
    at = torch.arange(masks.shape[-1]) + 0.5
    total = masks.sum((1, 2, 3))
    rows, columns = (masks.sum((1, d)) @ at / total for d in (3, 2))
    return torch.stack([rows, columns], 1)
