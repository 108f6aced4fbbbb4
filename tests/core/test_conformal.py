"""Conformal risk control: the frequency holds for any distribution."""

import numpy as np
import pytest
import torch

from saliencykit.core.conformal import controlled_size, fewest_images
from saliencykit.core.errors import InputError

SIZES = 200


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_a_further_image_succeeds_as_often_as_promised(level: float) -> None:
    generator = np.random.default_rng(0)
    trials, count = 2000, 29
    needed = generator.beta(0.5, 2, size=(trials, count + 1)) * (SIZES - 1)
    failures = torch.from_numpy(np.arange(SIZES) < needed[..., None])
    within = np.mean([not row[-1, controlled_size(row[:-1], level)] for row in failures])
    exact = np.ceil((count + 1) * level) / (count + 1)
    assert within == pytest.approx(exact, abs=0.01 + 3 * np.sqrt(exact * (1 - exact) / trials))


def test_images_that_fail_again_at_larger_sizes_are_counted_there() -> None:
    generator = np.random.default_rng(1)
    trials, count, level = 400, 200, 0.8
    needed = generator.beta(0.5, 2, size=(trials, count + 1)) * (SIZES - 1)
    failures = np.arange(SIZES) < needed[..., None]
    failures |= generator.random(failures.shape) < 0.1 * (1 - np.arange(SIZES) / (SIZES - 1))
    every = torch.from_numpy(failures)
    within = np.mean([not row[-1, controlled_size(row[:-1], level)] for row in every])
    assert level - 0.06 <= within <= level + 0.08


def test_too_few_images_for_a_level_are_refused() -> None:
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        count = fewest_images(level)
        failures = torch.tensor([[True, False]]).expand(count, 2)
        assert controlled_size(failures, level) == 1
        with pytest.raises(InputError, match=f"takes at least {count} images"):
            controlled_size(failures[1:], level)
