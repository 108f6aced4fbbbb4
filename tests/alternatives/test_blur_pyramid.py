import numpy as np
import pytest
import torch
from torch import Generator

from saliencykit.alternatives.blur import Blur, gaussian_blur
from saliencykit.alternatives.blur_pyramid import BlurPyramid, between
from saliencykit.core.errors import InputError


@pytest.fixture
def images():
    return torch.rand(2, 3, 9, 13, generator=Generator().manual_seed(0), dtype=torch.float64)


def slow_edit(image, mask, levels, sigma):
    """Pixel by pixel: the two blurs that the mask lies between, interpolated."""
    blurs = [
        gaussian_blur(image[None], sigma * (1 - i / (levels - 1)))[0].numpy()
        for i in range(levels - 1)
    ] + [image.numpy()]
    answer = np.empty_like(blurs[0])
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            place = float(mask[y, x]) * (levels - 1)
            low = min(int(place), levels - 2)
            answer[:, y, x] = (1 - (place - low)) * blurs[low][:, y, x] + (place - low) * blurs[
                low + 1
            ][:, y, x]
    return answer


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_an_edit_equals_the_formula_pixel_by_pixel(images, levels):
    mask = torch.rand(2, 1, 9, 13, generator=Generator().manual_seed(1), dtype=torch.float64)
    mask[0, 0, 0, :4] = torch.tensor([0.0, 1.0, 0.5, 1 / 7])
    edits = BlurPyramid(levels=levels, sigma=2.0).edit(images, mask, Generator())
    for edit, image, m in zip(edits, images, mask, strict=True):
        assert np.allclose(edit.numpy(), slow_edit(image, m[0], levels, 2.0), atol=1e-12)


def test_many_masks_share_the_pyramid_of_their_image(images):
    masks = torch.rand(2, 5, 1, 9, 13, generator=Generator().manual_seed(2), dtype=torch.float64)
    pyramid = BlurPyramid(sigma=2.0)
    together = between(pyramid.pyramid(images), masks)
    alone = torch.stack([pyramid.edit(images, masks[:, i], Generator()) for i in range(5)], 1)
    assert torch.allclose(together, alone)


def test_a_mask_of_ones_gives_the_image_one_of_zeros_the_widest_blur_and_two_levels_are_blur(
    images,
):
    pyramid, g = BlurPyramid(sigma=2.0), Generator()
    assert torch.equal(pyramid.edit(images, torch.ones(2, 1, 9, 13).double(), g), images)
    assert torch.allclose(
        pyramid.edit(images, torch.zeros(2, 1, 9, 13).double(), g), pyramid(images, generator=g)
    )
    mask = torch.rand(2, 1, 9, 13, generator=Generator().manual_seed(3), dtype=torch.float64)
    assert torch.allclose(
        BlurPyramid(levels=2, sigma=2.0).edit(images, mask, g),
        Blur(sigma=2.0).edit(images, mask, g),
        atol=1e-12,
    )


def test_its_gradient_in_the_mask_is_right(images):
    pyramid = BlurPyramid(levels=4, sigma=2.0).pyramid(images)
    mask = (
        torch.rand(2, 2, 1, 9, 13, generator=Generator().manual_seed(4), dtype=torch.float64) * 0.9
        + 0.05
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: between(pyramid, m), mask)
    assert not pyramid.requires_grad


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"levels": 1}, "levels=1"), ({"sigma": 0}, "sigma=0"), ({"sigma": float("nan")}, "sigma")],
)
def test_arguments_out_of_range_are_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        BlurPyramid(**wrong)
