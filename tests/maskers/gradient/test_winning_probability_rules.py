"""The rules of excitation backprop on numbers that can be checked by hand."""

import pytest
import torch
import torch.nn.functional as F

from saliencykit.maskers.gradient.excitation_rules import ExcitationRules
from saliencykit.maskers.gradient.winning_probability_rules import Addition, Half, Linear, OneToOne


def linear(weight):
    return Linear(lambda x: F.linear(x, weight), lambda x, w: F.linear(x, w), weight)


def test_a_linear_layer_shares_by_activation_times_positive_weight():
    x, weight = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[3.0, 0.5, -1.0]])
    (share,) = linear(weight).shares(torch.tensor([[0.8]]), x)
    assert share.tolist() == [pytest.approx([0.6, 0.2, 0.0])]  # 3 : 1 : 0


def test_the_dual_unit_shares_by_its_negated_weights():
    rule, x = linear(torch.tensor([[3.0, -0.5, -1.0]])), torch.tensor([[1.0, 2.0, 1.0]])
    rule.sign = -1
    assert rule.shares(torch.tensor([[1.0]]), x)[0].tolist() == [pytest.approx([0.0, 0.5, 0.5])]


def test_probability_is_spread_evenly_where_nothing_excites():
    rule, x = linear(torch.tensor([[-1.0, -2.0]])), torch.tensor([[1.0, 1.0]])
    assert rule.shares(torch.tensor([[1.0]]), x)[0].tolist() == [pytest.approx([0.5, 0.5])]


def test_a_norm_with_a_negative_scale_negates_the_weights_of_its_channel():
    rule = linear(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    rule.fold(torch.tensor([2.0, -3.0]), torch.zeros(1, 2))
    assert rule.weight.tolist() == [[1.0, -1.0], [-1.0, 1.0]]


def test_an_addition_shares_by_positive_parts_or_half_each():
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


def test_while_the_rules_are_active_the_backward_pass_propagates_probability():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    with ExcitationRules():
        out = F.relu(F.linear(x, torch.tensor([[2.0, 3.0]])))
    assert out.item() == 8.0
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [pytest.approx([0.25, 0.75])]
