import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.alternatives.crop import Crop
from saliencykit.core.errors import InputError

X = torch.rand(3, 3, 12, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask():
    mask = torch.full((3, 1, 12, 10), 0.3)
    mask[0, 0, 2:8, 1:5] = 0.9
    mask[0, 0, 4, 7] = 0.5
    mask[1, 0, 11, 9] = 1.0
    return mask


def test_the_crop_matches_that_of_pil(mask):
    edited = Crop().edit(X, mask, torch.Generator())
    for channel in range(3):
        whole = Image.fromarray(X[0, channel].numpy()).crop((1, 2, 8, 8))
        large = np.asarray(whole.resize((10, 12), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(edited[0, channel].numpy(), large, atol=1e-5)
    assert torch.allclose(edited[1], X[1, :, 11:, 9:].expand(3, 12, 10))  # one pixel
    assert torch.equal(edited[2], X[2])  # nothing reaches the threshold


def test_the_threshold_decides_what_is_inside(mask):
    assert torch.equal(Crop(threshold=0.3).edit(X, mask, torch.Generator()), X)
    narrow = Crop(threshold=0.8).edit(X, mask, torch.Generator())
    assert not torch.allclose(narrow[0], Crop().edit(X, mask, torch.Generator())[0])


def test_the_fill_is_the_crop_and_needs_a_mask(mask):
    crop = Crop()
    assert crop.uses_mask
    assert torch.equal(
        crop(X, generator=torch.Generator(), mask=mask), crop.edit(X, mask, torch.Generator())
    )
    assert torch.equal(crop(X, generator=torch.Generator()), X)


def test_no_gradient_reaches_the_mask(mask):
    assert not Crop().edit(X, mask.requires_grad_(True), torch.Generator()).requires_grad


@pytest.mark.parametrize("threshold", [0, 1.1, -1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match=r"takes a number in \(0, 1\]"):
        Crop(threshold=threshold)
