"""Methods by name, on a small network."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.data import Photo
from benchmarks.methods import BlackBoxes, averaged, ground_truth, methods
from benchmarks.results import similarity
from saliencykit.black_boxes.torch_module import TorchBlackBox


@pytest.fixture
def black_boxes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    black_box = TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=32)
    return BlackBoxes(black_box, black_box, black_box)


@pytest.fixture
def photo():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return Photo("x", image, 2, torch.tensor([[2.0, 4.0, 10.0, 12.0], [20.0, 20.0, 30.0, 30.0]]))


def test_every_cheap_method_answers_with_a_mask(black_boxes, photo):
    names = ["center-box", "whole-image", "ground-truth", "gradient", "cam", "grad-cam"]
    queried = methods(black_boxes, names, {"mine": "rise:samples=8"})
    assert list(queried) == [*names, "mine"]
    for method in queried.values():
        answer = method(photo, 2)
        assert answer.mask.shape == (1, 1, 32, 32)
        assert answer.mask.min() >= 0
        assert answer.mask.max() <= 1
    # raw scores rank the pixels, the mask's zeros do not
    assert queried["mine"](photo, 2).ranking.min() < 0


def test_the_ground_truth_is_all_of_its_boxes(photo):
    mask = ground_truth(photo, 0).mask[0, 0]
    assert mask.sum() == 64 + 100
    assert mask[4:12, 2:10].all()


def test_likeness():
    one = np.random.default_rng(0).random((4, 4))
    assert similarity(one, 2 * one + 1) == pytest.approx(1)
    assert similarity(np.ones((4, 4)), one) == 0
    assert similarity(np.ones((4, 4)), np.zeros((4, 4))) == 1


def test_scattered_maps_are_averaged_over_blocks():
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 5, 6] = 1
    smooth = averaged(mask)
    assert smooth.amax() == 1
    assert (smooth > 0.3).sum() > 9
    assert smooth[0, 0, 5, 6] > 0.8
