"""Nested masks: a mask of each area, smaller ones inside larger ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from saliencykit.core.errors import InputError
from saliencykit.core.nested_masks import budget_masks, nested_masks, pixel_order
from tests.helpers import seeded

# few different values, so that there are ties; and many
MAPS = st.one_of(
    arrays(np.float32, (2, 1, 5, 7), elements=st.sampled_from([-1.0, -0.0, 0.0, 0.5, 3e8])),
    arrays(np.float32, (2, 1, 5, 7), elements=st.floats(-1e6, 1e6, width=32)),
).map(torch.from_numpy)
AREA = st.floats(0.001, 0.999)


@given(MAPS, AREA, AREA)
def test_the_smaller_mask_is_inside_the_larger_one_and_both_have_their_areas(maps, one, other):
    small, large = sorted((one, other))
    masks = budget_masks(pixel_order(maps), (small, large))
    alone = budget_masks(pixel_order(maps[:1]), (small,))
    assert bool((masks[:, 0] <= masks[:, 1] + 1e-7).all())
    assert torch.allclose(masks.mean((2, 3)), torch.tensor([small, large]).float(), atol=1e-5)
    assert torch.equal(masks[:1, :1], alone)
    values, ones = maps[0].flatten(), masks[0, 0].flatten()
    higher = values[:, None] > values[None]
    assert bool((ones[:, None] >= ones[None] - 1e-7)[higher].all())
    assert bool((ones[:, None] == ones[None])[values[:, None] == values[None]].all())


@given(AREA)
def test_a_constant_map_orders_nothing_and_has_the_area_at_every_pixel(area):
    assert np.allclose(budget_masks(torch.full((1, 1, 4, 4), 7.0), (area,)), area, atol=1e-6)


def test_budget_masks_are_sigmoids_of_the_log_odds_of_each_place():
    maps = torch.randn(1, 1, 6, 6, generator=seeded())
    places = (maps.flatten().argsort().argsort().double().numpy() + 0.5) / 36
    scores = np.log(places / (1 - places))
    low, high = -20.0, 20.0
    for _ in range(200):
        middle = (low + high) / 2
        mask = 1 / (1 + np.exp(-(scores - middle) / 0.1))
        low, high = (middle, high) if mask.mean() > 0.2 else (low, middle)
    assert np.allclose(budget_masks(maps, (0.2,)).flatten(), mask, atol=1e-6)


def test_attributions_order_the_pixels_where_the_mask_does_not():
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.5]).view(1, 1, 1, 5)
    attributions = torch.tensor([2.0, -3.0, 1.0, -3.0, 9.0]).view(1, 1, 1, 5)
    assert pixel_order(mask, attributions).flatten().tolist() == [4, 0, 3, 0, 2]


def test_each_image_may_have_areas_of_its_own():
    scores = torch.randn(2, 1, 8, 8, generator=seeded())
    areas = torch.tensor([[0.1, 0.5], [0.3, 0.9]])
    masks = nested_masks(scores, areas, edge_width=0.5)
    assert torch.allclose(masks.mean((2, 3)), areas, atol=1e-5)
    assert torch.allclose(masks[1:], nested_masks(scores[1:], (0.3, 0.9), edge_width=0.5))


@pytest.mark.parametrize("area", [0, 1, -0.1, 1.5, float("nan"), True, "0.1"])
def test_an_area_outside_of_0_and_1_is_refused(area):
    with pytest.raises(InputError, match=r"takes a number in \(0, 1\)"):
        budget_masks(torch.zeros(1, 1, 2, 2), (area,))
