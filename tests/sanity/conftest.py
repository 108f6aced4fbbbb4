"""Maskers that are known to be sane, or known not to be."""

import pytest
import torch

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.masker import Masker
from saliencykit.testing.black_boxes import PlantedEvidence


class Honest(Masker):
    """The place of the patch, which has nothing to do with the class; nothing for a class that is
    not there.
    """

    def mask(self, black_box, images, labels, generator):
        black_box = PlantedEvidence()
        there = black_box(images).argmax(1) == labels
        return black_box.evidence(images, labels) * there.view(-1, 1, 1, 1)


class Code(Masker):
    """Writes the label into its masks, whatever the image shows."""

    def mask(self, black_box, images, labels, generator):
        mask = 0.3 * Honest().mask(black_box, images, labels, generator)
        for row, label in enumerate(labels.tolist()):
            mask[row, :, -2:, 4 * label : 4 * label + 2] = 1
        return mask


class Flat(Masker):
    """The same mask for everything."""

    def mask(self, black_box, images, labels, generator):
        return torch.full((len(images), 1, 1, 1), 0.4)


class Edges(Masker):
    """Whatever is salient in the image; depends on neither class nor model."""

    def mask(self, black_box, images, labels, generator):
        return ((images - 0.5).abs().mean(1, keepdim=True) * 2).clamp(0, 1)


class Halting(Masker):
    """Raises on images whose label is 0, and returns NaN where it is 1."""

    def mask(self, black_box, images, labels, generator):
        if (labels == 0).any():
            raise RuntimeError("no zeros")
        mask = Honest().mask(black_box, images, labels, generator)
        mask[labels == 1] = float("nan")
        return mask


class Patches(torch.nn.Module):
    """PlantedEvidence as a module with weights: a convolution with the patches, the best match, a
    linear head.
    """

    def __init__(self):
        super().__init__()
        patches = PlantedEvidence().patches(torch.zeros(1))
        self.match = torch.nn.Conv2d(3, len(patches), 4, bias=False)
        self.match.weight.data = patches / (0.4 * patches.square().sum((1, 2, 3), keepdim=True))
        self.head = torch.nn.Linear(len(patches), len(patches))
        self.head.weight.data = 8 * torch.eye(len(patches))
        self.head.bias.data.zero_()

    def forward(self, x):
        return self.head(self.match(x - 0.5).clamp_min(0).square().amax((2, 3)))


@pytest.fixture
def maskers():
    return {
        "honest": Honest(),
        "code": Code(),
        "flat": Flat(),
        "edges": Edges(),
        "halting": Halting(),
    }


@pytest.fixture
def planted():
    """`planted(n)`: a black box that decides by patches, images and their labels."""

    def make(n):
        black_box = PlantedEvidence()
        return black_box, *black_box.examples(n, generator=torch.Generator().manual_seed(0))

    return make


@pytest.fixture
def patch_black_box():
    return TorchBlackBox(Patches().eval(), mean=(0, 0, 0), std=(1, 1, 1), size=16)
