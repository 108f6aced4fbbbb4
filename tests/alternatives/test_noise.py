import pytest
import torch

from saliencykit.alternatives.noise import Noise
from saliencykit.core import rng
from saliencykit.core.errors import InputError

X = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def noise(x=X, seed=0, **settings):
    return Noise(**settings)(x, generator=torch.Generator().manual_seed(seed))


def test_each_image_gets_one_color_with_noise():
    fill = noise()
    color = fill.mean((2, 3))
    assert 0.5 - 0.165 - 0.02 < color.min() < 0.5 - 0.1
    assert 0.5 + 0.1 < color.max() < 0.5 + 0.165 + 0.02
    grain = fill - color[:, :, None, None]
    assert grain.std().item() == pytest.approx(0.055, rel=0.05)
    assert torch.corrcoef(grain[:10].flatten(1)).fill_diagonal_(0).abs().max() < 0.2


def test_without_noise_it_is_a_random_color_and_without_spread_gray():
    colors = noise(std=0.0)
    assert (colors.amax((2, 3)) - colors.amin((2, 3))).max() == 0
    assert len(set(colors[:, 0, 0, 0].tolist())) == 40
    assert torch.equal(noise(std=0.0, spread=0.0), torch.full_like(X, 0.5))


def test_the_fill_is_the_sum_of_its_draws():
    g = torch.Generator().manual_seed(4)
    color = rng.uniform(X, (3, 1, 1), generator=g) * 0.4 + 0.3
    grain = rng.normal(X, (3, 16, 16), generator=g) * 0.1
    assert torch.allclose(noise(seed=4, spread=0.2, std=0.1), color + grain, atol=1e-6)


def test_the_fill_depends_on_generator_and_image_key_alone():
    assert torch.equal(noise(seed=3), noise(seed=3))
    assert not torch.equal(noise(seed=3), noise(seed=4))


def test_normalized_images_get_a_color_in_their_own_range():
    x = X[:2] * 6 - 2
    low, high = x.flatten(1).amin(1), x.flatten(1).amax(1)
    middle = (low + high) / 2
    assert torch.allclose(noise(x, spread=0.0, std=0.0)[:, 0, 0, 0], middle, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spread": 0.6},
        {"spread": -0.1},
        {"std": -1.0},
        {"std": float("inf")},
        {"std": float("nan")},
    ],
)
def test_bad_numbers(wrong):
    with pytest.raises(InputError, match=r"takes a number in \[0, "):
        Noise(**wrong)
