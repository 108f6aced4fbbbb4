import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.alternatives.blur import Blur, gaussian_blur
from saliencykit.core.errors import InputError
from saliencykit.testing.strategies import images

X = torch.rand(2, 3, 20, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def blur(x, sigma):
    return Blur(sigma=sigma)(x, generator=torch.Generator())


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5, 7.0])
def test_it_matches_a_direct_convolution(sigma):
    reach = max(1, round(4 * sigma))
    weights = np.array([np.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)])
    weights /= weights.sum()
    x = X[0, 0, :9, :7].numpy()
    slow = np.zeros_like(x)
    for i in range(9):
        for j in range(7):
            for a, wa in zip(range(-reach, reach + 1), weights, strict=True):
                for b, wb in zip(range(-reach, reach + 1), weights, strict=True):
                    slow[i, j] += wa * wb * x[min(max(i + a, 0), 8), min(max(j + b, 0), 6)]
    np.testing.assert_allclose(
        gaussian_blur(torch.from_numpy(x)[None, None], sigma)[0, 0].numpy(), slow, atol=1e-12
    )


@pytest.mark.parametrize("sigma", [1.0, 2.5, 10.0])
def test_against_scipy_and_scikit_image(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    filters = pytest.importorskip("skimage.filters")
    mine = blur(X, sigma)[0].numpy()
    theirs = np.stack(
        [ndimage.gaussian_filter(c, sigma, mode="nearest", truncate=4.0) for c in X[0].numpy()]
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-9)
    np.testing.assert_allclose(
        mine, filters.gaussian(X[0].numpy(), sigma, mode="nearest", channel_axis=0), atol=1e-9
    )


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_against_torchvision_inside(sigma):
    functional = pytest.importorskip("torchvision.transforms.functional")
    reach = round(4 * sigma)
    wide = torch.rand(1, 3, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theirs = functional.gaussian_blur(wide, 2 * reach + 1, sigma)  # it mirrors at the edges
    inside = slice(reach, -reach)
    assert (blur(wide, sigma) - theirs)[..., inside, inside].abs().max() < 1e-7


def test_sigma_below_1_is_a_fraction_of_the_shorter_side():
    assert torch.equal(blur(X, 0.1), gaussian_blur(X, 1.5))
    assert not torch.equal(blur(X, 1.0), gaussian_blur(X, 15.0))  # from 1 on it is pixels
    assert Blur().sigma * 224 == pytest.approx(10, abs=0.1)


@given(images(), st.floats(0.01, 30))
def test_it_keeps_the_range(x, sigma):
    out = blur(x, sigma)
    assert (out <= x.amax((2, 3), keepdim=True) + 1e-9).all()
    assert (out >= x.amin((2, 3), keepdim=True) - 1e-9).all()


@given(images(batch=1), st.floats(0.01, 30))
def test_it_keeps_constants(x, sigma):
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    assert torch.allclose(blur(flat, sigma), flat, atol=1e-9)


@given(images(batch=1), st.floats(1, 5))
def test_it_commutes_with_flips(x, sigma):
    assert torch.allclose(blur(x, sigma).flip(2, 3), blur(x.flip(2, 3), sigma), atol=1e-9)


def test_a_larger_sigma_leaves_less_detail():
    spread = [blur(X, s).std().item() for s in (1.0, 2.0, 4.0, 8.0)]
    assert spread == sorted(spread, reverse=True)


@pytest.mark.parametrize("sigma", [0, -1.0, float("inf"), float("nan")])
def test_a_sigma_that_is_not_positive_is_refused(sigma):
    with pytest.raises(InputError, match=r"sigma=.*takes a number in \(0, inf\)"):
        Blur(sigma=sigma)
