"""The rules of excitation backprop, each on numbers that can be followed by hand."""

import pytest
import torch
import torch.nn.functional as F

from saliencykit.maskers.gradient.winning_probability_rules import (
    Addition,
    ExcitationRules,
    Half,
    Linear,
    OneToOne,
)


def linear(weight):
    return Linear(lambda x: F.linear(x, weight), lambda x, w: F.linear(x, w), weight)


def test_a_linear_layer_shares_by_activation_times_positive_weight():
    x, weight = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[3.0, 0.5, -1.0]])
    (got,) = linear(weight).shares(torch.tensor([[0.8]]), x)
    assert got.tolist() == [pytest.approx([0.6, 0.2, 0.0])]  # 3 : 1 : 0


def test_the_dual_unit_shares_by_its_negated_weights():
    rule, x = linear(torch.tensor([[3.0, -0.5, -1.0]])), torch.tensor([[1.0, 2.0, 1.0]])
    rule.sign = -1
    assert rule.shares(torch.tensor([[1.0]]), x)[0].tolist() == [pytest.approx([0.0, 0.5, 0.5])]


def test_what_nothing_excites_is_shared_evenly():
    rule, x = linear(torch.tensor([[-1.0, -2.0]])), torch.tensor([[1.0, 1.0]])
    assert rule.shares(torch.tensor([[1.0]]), x)[0].tolist() == [pytest.approx([0.5, 0.5])]


def test_a_norm_that_turns_a_channel_over_turns_its_weights_over():
    rule = linear(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    rule.fold(torch.tensor([2.0, -3.0]), torch.zeros(1, 2))
    assert rule.weight.tolist() == [[1.0, -1.0], [-1.0, 1.0]]


def test_an_addition_shares_by_what_is_positive_and_half_and_half_without_any():
    one, other = torch.tensor([3.0, -1.0, -1.0]), torch.tensor([1.0, 2.0, -1.0])
    first, second = Addition(torch.add).shares(torch.ones(3), one, other)
    assert first.tolist() == [0.75, 0.0, 0.5]
    assert second.tolist() == [0.25, 1.0, 0.5]


def test_a_broadcast_map_gets_the_sum_and_a_product_of_equals_half_each():
    assert OneToOne(torch.relu).shares(torch.full((2, 3), 0.5), torch.zeros(1, 3))[0].tolist() == [
        [1.0, 1.0, 1.0]
    ]
    assert [
        share.item()
        for share in Half(torch.mul).shares(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(7.0))
    ] == [0.5, 0.5]


def test_while_the_rules_are_on_a_backward_step_hands_probability_down():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    with ExcitationRules():
        out = F.relu(F.linear(x, torch.tensor([[2.0, 3.0]])))
    assert out.item() == 8.0
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [pytest.approx([0.25, 0.75])]
