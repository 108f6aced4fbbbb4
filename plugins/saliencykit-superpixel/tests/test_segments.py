import numpy as np
import pytest
import torch
from saliencykit_superpixel.lime import Lime
from saliencykit_superpixel.segments import superpixels
from skimage.measure import label

from saliencykit import InputError
from saliencykit.demo import demo_image


def photo(side=64):
    pixels = np.asarray(demo_image().convert("RGB").resize((side, side)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def test_superpixels_are_connected_and_numbered_from_zero():
    numbers = superpixels(photo(), 40, 10.0)
    assert numbers.shape == (64, 64)
    assert numbers.dtype == torch.int64
    count = int(numbers.max()) + 1
    assert torch.unique(numbers).tolist() == list(range(count))
    assert 20 <= count <= 60
    assert all(
        label(numbers.numpy() == i, connectivity=1, return_num=True)[1] == 1 for i in range(count)
    )


def test_superpixels_are_deterministic_for_any_range_and_dtype():
    image = photo()
    wanted = superpixels(image, 40, 10.0)
    torch.manual_seed(1)
    for same in (image, image.double(), image * 4 - 2, image.clone().requires_grad_(True)):
        assert (superpixels(same, 40, 10.0) == wanted).float().mean() > 0.99
    assert torch.equal(superpixels(image, 40, 10.0), wanted)


def test_superpixels_follow_the_edges():
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, 9:23, 6:27] = 1
    numbers = superpixels(image, 30, 1.0)
    inside = image[0, 0] > 0.5
    assert not set(numbers[inside].tolist()) & set(numbers[~inside].tolist())


@pytest.mark.parametrize("shape", [(1, 1, 20, 30), (1, 3, 5, 5), (1, 3, 1, 1), (1, 4, 12, 9)])
@pytest.mark.parametrize("flat", [True, False])
def test_any_size_and_number_of_channels_works(shape, flat):
    image = (
        torch.full(shape, 0.5)
        if flat
        else torch.rand(shape, generator=torch.Generator().manual_seed(0))
    )
    numbers = superpixels(image, 6, 10.0)
    assert numbers.shape == shape[2:]
    assert int(numbers.min()) == 0


@pytest.mark.parametrize(
    "options",
    [{"segments": 0}, {"segments": 2.5}, {"compactness": 0.0}, {"compactness": float("inf")}],
)
def test_bad_numbers_are_refused(options):
    with pytest.raises(InputError, match="segments must be an integer >= 1 and compactness > 0"):
        Lime(**options)
