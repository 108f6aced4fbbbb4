"""The peers on a small network whose class map is known."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.data import Photo
from benchmarks.methods import Boxes, class_map, head_rows, methods, object_boxes
from benchmarks.results import likeness
from saliencykit.black_boxes.torch_module import TorchBlackBox


@pytest.fixture
def boxes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    box = TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=32)
    return Boxes(box, box, box, "1")


@pytest.fixture
def photo():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return Photo("x", image, 2, torch.tensor([[2.0, 4.0, 10.0, 12.0], [20.0, 20.0, 30.0, 30.0]]))


def test_the_class_map_averages_to_the_logit(boxes, photo):
    """Undone from its minimum and maximum, CAM is the head's row at each position: its mean and the bias are the logit."""
    net, label = boxes.own.model, 2
    with torch.no_grad():
        features = net[1](net[0]((photo.image - 0.5) / 0.5))[0].numpy()
    row = head_rows(boxes.own)[label].numpy()
    coarse = sum(weight * channel for weight, channel in zip(row, features, strict=True))
    logit = float(boxes.own(photo.image)[0, label].detach())
    assert coarse.mean() + float(net[4].bias[label].detach()) == pytest.approx(logit, abs=1e-5)
    found = class_map(boxes.own, net[1], photo, label)[0, 0].numpy()
    assert (found.min(), found.max()) == pytest.approx((0, 1))
    blocks = found.reshape(16, 2, 16, 2).mean((1, 3))
    assert np.corrcoef(blocks[1:-1, 1:-1].ravel(), coarse[1:-1, 1:-1].ravel())[0, 1] > 0.9
    assert not net[1]._forward_hooks


def test_every_cheap_method_answers_with_a_mask(boxes, photo):
    names = ["centre-box", "whole-image", "ground-truth", "gradient", "cam", "grad-cam"]
    asked = methods(boxes, names, {"mine": "rise:samples=8"})
    assert list(asked) == [*names, "mine"]
    for method in asked.values():
        answer = method(photo, 2)
        assert answer.mask.shape == (1, 1, 32, 32)
        assert answer.mask.min() >= 0
        assert answer.mask.max() <= 1
    assert asked["mine"](photo, 2).ranking.min() < 0  # raw scores rank the pixels, the mask's zeros do not


def test_the_ground_truth_is_all_of_its_boxes(photo):
    mask = object_boxes(photo)[0, 0]
    assert mask.sum() == 64 + 100
    assert mask[4:12, 2:10].all()


def test_likeness():
    one = np.random.default_rng(0).random((4, 4))
    assert likeness(one, 2 * one + 1) == pytest.approx(1)
    assert likeness(np.ones((4, 4)), one) == 0
    assert likeness(np.ones((4, 4)), np.zeros((4, 4))) == 1
