"""The ReLU6 of optimized copies: torch's values and gradients, from its output."""

import pytest
import torch
from torch import nn

from saliencykit.networks.lean_relu6 import LeanReLU6, replace_relu6
from saliencykit.networks.optimized_copy import optimize

EDGES = torch.tensor([-1.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 6.0001, 9.0])


@pytest.mark.parametrize("inplace", [False, True])
def test_values_and_gradients_are_those_of_torch(inplace):
    results = []
    for layer in (nn.ReLU6(inplace), LeanReLU6(inplace)):
        x = EDGES.clone().requires_grad_()
        out = layer(x * 1)
        results.append((out.detach(), torch.autograd.grad(out, x, torch.arange(1.0, 9.0))[0]))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)
    x = EDGES.clone()
    with torch.no_grad():
        assert (LeanReLU6(inplace)(x) is x) == inplace


def test_an_optimized_copy_uses_it_and_the_model_keeps_its_own():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU6(),
        nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip
    x = 9 * torch.randn(2, 3, 16, 16)
    model(x)
    twin = optimize(model, x).model
    assert [type(twin[i]) for i in (1, 3)] == [LeanReLU6] * 2
    assert [type(model[i]) for i in (1, 3)] == [nn.ReLU6] * 2
    gradients = []
    for network in (model, twin):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(network(leaf).sum(), leaf)[0])
    assert torch.allclose(*gradients, atol=1e-5)


def test_modules_with_hooks_and_of_other_classes_stay():
    class Mine(nn.ReLU6):
        pass

    model = nn.Sequential(nn.ReLU6(), Mine(), nn.ReLU6(), nn.ReLU())
    model[0].register_forward_hook(lambda *_: None)
    replace_relu6(model)
    assert [type(module) for module in model] == [nn.ReLU6, Mine, LeanReLU6, nn.ReLU]
