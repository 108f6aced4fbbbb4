import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.metrics.ranking import best, ranks
from saliencykit.testing.strategies import masks


def test_it_equals_pythons_sort(some, order):
    for values, places in zip(some[2], ranks(some[2]), strict=True):
        wanted = {at: place for place, at in enumerate(order(values[0].numpy()))}
        assert {(y, x): int(places[0, y, x]) for y in range(11) for x in range(14)} == wanted


@pytest.mark.parametrize("size", [(6, 7), (5, 5), (1, 4)])
def test_a_constant_map_is_a_growing_disc_in_the_center(size):
    height, width = size
    places = ranks(torch.full((1, 1, *size), 0.3))
    away = (torch.arange(height)[:, None] * 2 - height + 1) ** 2 + (
        torch.arange(width) * 2 - width + 1
    ) ** 2
    inside_out = away.flatten()[places.flatten().argsort()]
    assert inside_out.tolist() == sorted(inside_out.tolist())


@given(masks(batch=3, size=(5, 8)))
def test_ranks_are_a_permutation_in_descending_order(maps):
    places = ranks(maps).flatten(1)
    assert all(row.sort().values.tolist() == list(range(40)) for row in places)
    by_place = maps.flatten(1).gather(1, places.argsort(1))
    assert bool((by_place.diff(dim=1) <= 0).all())


@given(masks(batch=3, size=(4, 6)), st.floats(0.1, 0.9))
def test_ranks_depend_neither_on_the_scale_nor_on_the_batch(maps, factor):
    if len((maps * factor).unique()) == len(maps.unique()):
        assert torch.equal(ranks(maps * factor), ranks(maps))
    assert torch.equal(ranks(maps)[1:2], ranks(maps[1:2]))


def test_negative_zero_is_zero():
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., ::2] = -0.0
    assert torch.equal(ranks(maps), ranks(torch.zeros(1, 1, 4, 4)))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.31, 0.5, 1.0])
def test_best_takes_the_rounded_fraction(share):
    places = ranks(torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0)))
    assert best(places, share).sum((1, 2, 3)).tolist() == [round(share * 63)] * 2


def test_cached_ranks_are_dropped_when_the_map_is_modified():
    values = np.random.default_rng(0).random((1, 1, 5, 6))
    maps = torch.from_numpy(values)
    first = ranks(maps)
    assert ranks(maps) is first
    values[:] = values[:, :, ::-1].copy()  # torch does not see that
    assert torch.equal(ranks(maps), ranks(maps.clone()))
    assert not torch.equal(ranks(maps), first)
