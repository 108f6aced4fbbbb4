from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given

from saliencykit.core.errors import InputError
from saliencykit.terms.smoothness import Smoothness
from saliencykit.testing.strategies import trials


def slow(mask, border=0.0):
    height, width = mask.shape
    total = 0.0
    for i in range(height):
        for j in range(width):
            if j + 1 < width:
                total += (mask[i, j] - mask[i, j + 1]) ** 2
            if i + 1 < height:
                total += (mask[i, j] - mask[i + 1, j]) ** 2
            for edge in (i == 0, i == height - 1, j == 0, j == width - 1):
                total += border * mask[i, j] ** 2 * edge
    return total


@given(trials())
def test_smoothness_matches_a_loop_over_pixels(trial):
    masks = trial.mask.numpy()[:, 0]
    for border in (0.0, 0.3):
        total = [slow(mask, border) for mask in masks]
        np.testing.assert_allclose(
            Smoothness(reduction="sum", border=border)(trial).numpy(), total, rtol=1e-9, atol=1e-12
        )
        mean = np.array(total) / masks[0].size
        np.testing.assert_allclose(
            Smoothness(border=border)(trial).numpy(), mean, rtol=1e-9, atol=1e-12
        )


@given(trials())
def test_it_is_0_iff_the_mask_is_constant(trial):
    flat = (trial.mask.amax((1, 2, 3)) - trial.mask.amin((1, 2, 3))) == 0
    penalty = Smoothness(reduction="sum")(trial)
    assert (penalty >= 0).all()
    assert not penalty[flat].any()
    rough = (trial.mask.amax((1, 2, 3)) - trial.mask.amin((1, 2, 3))) > 1e-6
    assert (penalty[rough] > 0).all()


@given(trials())
def test_it_is_equal_under_flips_and_turns(trial):
    for term in (Smoothness(), Smoothness(reduction="sum", border=0.3)):
        for turned in (trial.mask.flip(2), trial.mask.flip(3), trial.mask.transpose(2, 3)):
            assert torch.allclose(
                term(replace(trial, mask=turned)), term(trial), rtol=1e-9, atol=1e-12
            )


def test_a_hole_costs_as_much_as_a_spot():
    mask = torch.rand(1, 1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(1)
    from saliencykit.core.objective import Trial

    trial = Trial(mask, none, none, mask, none, none)
    assert torch.allclose(Smoothness()(trial), Smoothness()(replace(trial, mask=1 - mask)))


@pytest.mark.parametrize("wrong", [{"reduction": "max"}, {"border": -0.1}])
def test_bad_arguments(wrong):
    with pytest.raises(InputError, match=r"takes ('mean' or 'sum'|a number in)"):
        Smoothness(**wrong)


def test_it_does_not_read_logits():
    assert Smoothness.reads_logits is False
