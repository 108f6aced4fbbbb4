"""Random masks: mean and covariance, antithetic pairs, and draws independent of the blocks."""

import pytest
import torch
from torch import Generator

from saliencykit.maskers.perturbation.random_masks import draw_masks, side_covariance


def drawn(samples, size=(12, 9), grid_size=3, keep_prob=0.5, sampling="antithetic", seed=0):
    image = torch.ones(1, 1, *size)
    parts = draw_masks(
        image, samples, grid_size, keep_prob, sampling, generator=Generator().manual_seed(seed)
    )
    return torch.cat([part.masks() for part in parts])[:, 0]


@pytest.mark.parametrize(
    ("keep_prob", "sampling"), [(0.5, "antithetic"), (0.3, "antithetic"), (0.3, "random")]
)
def test_mean_and_covariance_are_the_documented_ones(keep_prob, sampling):
    masks = drawn(20000, keep_prob=keep_prob, sampling=sampling).double()
    assert (masks.mean(0) - keep_prob).abs().max() < 0.02
    if sampling == "antithetic":
        masks = masks[::2]  # pairs depend on each other
    above = (masks - masks.mean(0)).flatten(1)
    wanted = (
        keep_prob
        * (1 - keep_prob)
        * torch.einsum("yv,xu->yxvu", side_covariance(12, 3), side_covariance(9, 3)).reshape(
            108, 108
        )
    )
    assert (above.T @ above / len(above) - wanted).abs().max() < 0.02


def test_antithetic_masks_add_up_to_one():
    masks = drawn(50)
    assert torch.allclose(masks[::2] + masks[1::2], torch.ones(()), atol=1e-6)
    assert not torch.allclose(masks[0], masks[2])


@pytest.mark.parametrize("sampling", ["antithetic", "random"])
def test_more_masks_start_with_the_same_ones(sampling):
    assert torch.equal(drawn(33, sampling=sampling), drawn(600, sampling=sampling)[:33])
