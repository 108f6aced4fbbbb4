import math

import numpy as np
import pytest
import torch
from torch import nn

from saliencykit.maskers.optimization.mask_parametrization import (
    NestedMasks,
    SigmoidMask,
    low_discrepancy,
)
from tests.helpers import seeded

PARAMETRIZATIONS = [SigmoidMask(), NestedMasks((0.05, 0.5), 0.3)]


def test_nested_masks_have_their_areas_and_are_nested():
    parametrization = NestedMasks((0.1, 0.6), 0.3)
    grid = torch.randn(3, 1, 7, 7, generator=seeded(), dtype=torch.float64)
    masks = [parametrization.mask(grid, (56, 48), position) for position in (0.0, 0.5, 1.0)]
    for mask, area in zip(masks, (0.1, 0.35, 0.6), strict=True):
        assert np.allclose(mask.mean((1, 2, 3)), area, atol=1e-6)
    assert bool((masks[0] <= masks[1]).all())
    assert bool((masks[1] <= masks[2]).all())


def test_the_gradient_of_a_nested_mask_includes_that_of_the_threshold():
    parametrization = NestedMasks((0.2, 0.4), 0.3)
    grid = torch.randn(1, 1, 3, 3, generator=seeded(), dtype=torch.float64).requires_grad_()
    weights = torch.rand(1, 1, 12, 12, generator=seeded(), dtype=torch.float64)

    def value(c):  # the scale of the scores is held fixed, as in the mask's derivative
        large = nn.functional.interpolate(c, size=(12, 12), mode="bicubic", align_corners=False)
        scores = (large - large.mean()) / (spread + 0.1)
        low, high = -100.0, 100.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if torch.sigmoid((scores - middle) / 0.3).mean() > 0.3
                else (low, middle)
            )
        return (torch.sigmoid((scores - middle) / 0.3) * weights).sum().item()

    large = nn.functional.interpolate(
        grid.detach(), size=(12, 12), mode="bicubic", align_corners=False
    )
    spread = (large - large.mean()).square().mean().sqrt()
    got = torch.autograd.grad((parametrization.mask(grid, (12, 12), 0.5) * weights).sum(), grid)[
        0
    ].flatten()
    for index in range(9):
        step = torch.zeros(9, dtype=torch.float64)
        step[index] = 1e-5
        step = step.view(1, 1, 3, 3)
        wanted = (value(grid.detach() + step) - value(grid.detach() - step)) / 2e-5
        assert math.isclose(got[index].item(), wanted, rel_tol=1e-4, abs_tol=1e-6)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_a_zero_gradient_makes_no_step(parametrization):
    grid, moments = torch.zeros(2, 1, 3, 3), (torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 3, 3))
    assert torch.equal(parametrization.step(grid, torch.zeros_like(grid), moments, 0, 0.1), grid)
    mask = parametrization.mask(grid, (8, 8), 0.5)
    assert bool(torch.isfinite(mask).all())
    assert (mask.amax() - mask.amin()).item() < 1e-6


def test_sigmoid_mask_steps_are_those_of_adam():
    gradients = torch.randn(6, 1, 1, 2, 2, generator=seeded(), dtype=torch.float64)
    grid = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    moments = torch.zeros_like(grid), torch.zeros_like(grid)
    wanted, first, second = np.zeros(4), np.zeros(4), np.zeros(4)
    for step, gradient in enumerate(gradients):
        grid = SigmoidMask().step(grid, gradient, moments, step, 0.1)
        for i, g in enumerate(gradient.flatten().tolist()):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g * g
            wanted[i] -= (
                0.1
                * (first[i] / (1 - 0.9 ** (step + 1)))
                / (math.sqrt(second[i] / (1 - 0.999 ** (step + 1))) + 1e-8)
            )
    assert np.allclose(grid.flatten(), wanted, atol=1e-12)


def test_positions_cover_the_interval_evenly():
    positions = sorted(low_discrepancy(n) for n in range(50))
    assert max(np.diff([0.0, *positions, 1.0])) < 0.06
