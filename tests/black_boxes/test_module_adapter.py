"""BlackBoxModule: a black box as a module."""

import copy

import pytest
import torch

from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_black_box
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly


def test_it_answers_as_the_black_box_does_and_gives_it_back():
    black_box = PlantedEvidence()
    images, _ = black_box.examples(3, generator=torch.Generator().manual_seed(0))
    module = BlackBoxModule(black_box)
    assert torch.equal(module(images), black_box(images))
    assert as_black_box(module) is black_box
    assert not module.training
    assert not list(module.parameters())
    assert "PlantedEvidence" in repr(module)


def test_gradients_pass_where_the_black_box_has_them():
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert BlackBoxModule(PlantedEvidence())(images).requires_grad
    assert not BlackBoxModule(QueryOnly(PlantedEvidence()))(images).requires_grad


def test_it_can_be_copied():
    assert copy.deepcopy(BlackBoxModule(PlantedEvidence()))(torch.rand(2, 3, 8, 8)).shape == (2, 4)


def test_it_takes_black_boxes_only():
    with pytest.raises(InputError, match="takes a BlackBox; got Identity"):
        BlackBoxModule(torch.nn.Identity())
