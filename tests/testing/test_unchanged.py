import random

import numpy as np
import pytest
import torch
from torch import nn

from saliencykit.core.errors import ContractError
from saliencykit.testing.unchanged import untouched


@pytest.fixture
def model():
    return nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(), nn.Linear(2, 2).half()
    )


def test_nothing_is_reported_if_nothing_changed(model):
    x = torch.rand(1, 3, 4, 4)
    with untouched("somebody", model, x=x), torch.no_grad():
        model[:2].eval()(x)
        model.train()


CHANGES = {
    "the values of 0.weight": lambda m: m[0].weight.data.mul_(1.0001),
    "the values of 1.running_mean": lambda m: m[1].running_mean.add_(1),
    "requires_grad of 0.bias": lambda m: m[0].bias.requires_grad_(False),
    "the gradient of 0.weight": lambda m: setattr(
        m[0].weight, "grad", torch.zeros_like(m[0].weight)
    ),
    "the mode of 2": lambda m: m[2].eval(),
    "the hooks of 0": lambda m: m[0].register_forward_hook(lambda *a: None),
    "the hooks of 1": lambda m: m[1].register_full_backward_hook(lambda *a: None),
    "the class of 2": lambda m: m.__setitem__(2, nn.Identity()),
    "the random state of torch": lambda m: torch.rand(1),
    "the random state of numpy": lambda m: np.random.rand(),
    "the random state of random": lambda m: random.random(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_reported_by_name(model, what):
    with (
        pytest.raises(ContractError, match=rf"somebody changed .*{what}.*; leave it"),
        untouched("somebody", model),
    ):
        CHANGES[what](model)


def test_tensors_are_compared_bit_for_bit():
    x, y = torch.zeros(3), torch.zeros(())
    with pytest.raises(ContractError, match="changed y;"), untouched("somebody", x=x, y=y):
        y += 1e-30
    with pytest.raises(ContractError, match="changed x;"), untouched("somebody", x=x, y=y):
        x[2] = -0.0


def test_an_error_inside_is_not_hidden():
    def fails():
        with untouched("somebody"):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        fails()


def test_many_changes_are_counted():
    model = nn.Sequential(*(nn.Dropout() for _ in range(9)))
    with pytest.raises(ContractError, match="and 7 more"), untouched("somebody", model):
        model.eval()
