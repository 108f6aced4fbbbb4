import math

import numpy as np
import pytest
import torch
from torch import Generator

from saliencykit.maskers.optimization.smooth_mask import SmoothMask

STRIDE = 3


def slow_mask(smooth, grid, *, smallest=0.2):
    """The formula, value by value: the smooth maximum over all grid points with a kernel above
    `smallest`, 0 outside the image; in every third row and column, so for all values of cells.
    """
    rows, columns = smooth.shape
    width = smooth.width * min(smooth.shape)

    def kernel(y, x):
        return math.exp(-2 * max(0.0, math.hypot(y, x) / width - 0.5) ** 2)

    mask_values = np.zeros((2 * rows, 2 * columns))
    for i in range(0, 2 * rows, STRIDE):
        for j in range(0, 2 * columns, STRIDE):
            here, values = (i // 2, j // 2), []
            for y in range(here[0] - 12, here[0] + 13):
                for x in range(here[1] - 12, here[1] + 13):
                    # a grid point counts for all four values of a cell, or for none
                    near = max(
                        kernel(y - here[0] - a, x - here[1] - b)
                        for a in (-0.25, 0.25)
                        for b in (-0.25, 0.25)
                    )
                    if near >= smallest:
                        inside = 0 <= y < rows and 0 <= x < columns
                        at = ((i + 0.5) / 2 - 0.5, (j + 0.5) / 2 - 0.5)
                        values.append(kernel(y - at[0], x - at[1]) * grid[y, x] if inside else 0.0)
            values = np.array(values)
            weights = np.exp(values / smooth.temperature)
            mask_values[i, j] = (values * weights).sum() / weights.sum()
    return mask_values


@pytest.mark.parametrize(
    "smooth",
    [
        SmoothMask((224, 224), grid_size=9),
        SmoothMask((40, 24), grid_size=6, width=0.2, temperature=0.1),
        SmoothMask((5, 7), grid_size=32),
        SmoothMask((30, 30), grid_size=8, width=0.4),
    ],
    ids=repr,
)
def test_equals_the_formula_value_by_value(smooth):
    grid = torch.rand(
        2, 1, *smooth.shape, generator=Generator().manual_seed(0), dtype=torch.float64
    )
    masks = smooth.mask(grid)
    assert masks.shape == (2, 1, 2 * smooth.shape[0], 2 * smooth.shape[1])
    for mask, cell in zip(masks, grid, strict=True):
        expected = slow_mask(smooth, cell[0].numpy())[::STRIDE, ::STRIDE]
        assert np.allclose(mask[0, ::STRIDE, ::STRIDE].numpy(), expected, atol=1e-9)


def test_the_gradient_is_correct():
    smooth = SmoothMask((12, 9), grid_size=5, width=0.3)
    grid = torch.rand(
        2,
        1,
        *smooth.shape,
        generator=Generator().manual_seed(1),
        dtype=torch.float64,
        requires_grad=True,
    )
    assert torch.autograd.gradcheck(smooth.mask, grid)


def test_one_grid_point_makes_a_soft_disc_and_none_makes_nothing():
    smooth = SmoothMask((224, 224))
    grid = torch.zeros(2, 1, *smooth.shape)
    grid[1, 0, 16, 10] = 1
    nothing, disc = smooth.mask(grid)[:, 0]
    assert nothing.max() == 0
    y, x = torch.meshgrid(
        torch.arange(64) * 3.5 + 1.75, torch.arange(64) * 3.5 + 1.75, indexing="ij"
    )
    away = torch.hypot(y - 16.5 * 7, x - 10.5 * 7)  # in pixels of 224
    assert disc[away < 21 / 2].min() > 0.99
    assert disc[away > 21 * 1.5].max() < 0.03
    assert disc.max() <= 1


def test_no_mask_is_rougher_than_a_disc():
    smooth = SmoothMask((224, 224))
    grid = (torch.rand(1, 1, *smooth.shape, generator=Generator().manual_seed(2)) > 0.97).float()
    mask = smooth.mask(grid)[0, 0]
    # 3.5 px apart; a mask of that many free values could jump by 1
    assert mask.diff(dim=0).abs().max() < 0.4
    assert mask.max() > 0.99


@pytest.mark.parametrize(
    ("size", "grid"),
    [((224, 224), (32, 32)), ((224, 448), (32, 64)), ((16, 16), (16, 16)), ((5, 40), (5, 40))],
)
def test_the_grid_is_as_dense_along_both_sides_and_at_most_one_point_per_pixel(size, grid):
    smooth = SmoothMask(size)
    assert smooth.shape == grid
    assert smooth.num_values == 4 * grid[0] * grid[1]


def test_masks_are_independent_and_keep_their_dtype():
    smooth = SmoothMask((32, 32), grid_size=8)
    grid = torch.rand(3, 1, 8, 8, generator=Generator().manual_seed(3))
    assert torch.allclose(smooth.mask(grid)[1:2], smooth.mask(grid[1:2]), atol=1e-6)
    assert smooth.mask(grid.double()).dtype == torch.float64
