import numpy as np
import pytest
import torch
from saliencykit_superpixel.inpaint import Inpaint
from skimage.restoration import inpaint_biharmonic

from saliencykit import InputError


def hole(size, top, bottom, left, right):
    mask = torch.ones(1, 1, *size)
    mask[..., top:bottom, left:right] = 0
    return mask


def test_equals_scikit_image_at_full_resolution(generator):
    images = torch.rand(1, 3, 20, 24, generator=generator, dtype=torch.float64)
    mask = hole((20, 24), 4, 13, 5, 17).double()
    fill = Inpaint()(images, generator=generator, mask=mask)
    wanted = inpaint_biharmonic(
        images[0].permute(1, 2, 0).numpy(), mask[0, 0].numpy() < 0.5, channel_axis=2
    )
    assert np.allclose(fill[0].permute(1, 2, 0).numpy(), wanted)
    assert torch.equal(fill[..., :4, :], images[..., :4, :])


@pytest.mark.parametrize("side", [64, 32])
def test_a_ramp_continues_behind_the_hole(side, generator):
    """A linear image is biharmonic, so its continuation is exact; on a smaller copy but for the
    edges of the small pixels.
    """
    across = torch.linspace(0.1, 0.9, 64).expand(1, 3, 64, 64)
    fill = Inpaint(side=side)(across, generator=generator, mask=hole((64, 64), 20, 44, 18, 50))
    assert float((fill - across).abs().max()) < (1e-4 if side == 64 else 0.03)


def test_only_the_hole_changes_and_each_image_has_its_own(generator):
    images = torch.rand(3, 3, 40, 30, generator=generator)
    mask = torch.cat(
        [hole((40, 30), 5, 20, 5, 20), hole((40, 30), 20, 39, 0, 30), torch.ones(1, 1, 40, 30)]
    )
    fill = Inpaint(side=16)(images, generator=generator, mask=mask)
    kept = mask.bool().expand_as(images)
    assert torch.equal(fill[kept], images[kept])
    assert torch.equal(fill[2], images[2])
    assert fill.min() >= 0
    assert fill.max() <= 1
    assert float((fill - images)[~kept].abs().mean()) > 0.1


def test_the_threshold_defines_the_hole(generator):
    images = torch.rand(1, 3, 16, 16, generator=generator)
    mask = torch.ones(1, 1, 16, 16)
    mask[..., 4:8, 4:8] = 0.4
    assert torch.equal(Inpaint(threshold=0.3)(images, generator=generator, mask=mask), images)
    assert not torch.equal(Inpaint(threshold=0.5)(images, generator=generator, mask=mask), images)


def test_an_image_that_is_all_hole_gets_its_mean_color(generator):
    images = torch.rand(2, 3, 12, 12, generator=generator)
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    for mask in (None, torch.zeros(2, 1, 12, 12)):
        assert torch.equal(Inpaint()(images, generator=generator, mask=mask), mean)


@pytest.mark.parametrize("side", [8, 64])
def test_one_known_pixel_is_enough_to_inpaint(side, generator):
    mask = torch.zeros(1, 1, 24, 24)
    mask[..., 3, 20] = 1
    images = torch.rand(1, 3, 24, 24, generator=generator)
    fill = Inpaint(side=side)(images, generator=generator, mask=mask)
    assert bool(torch.isfinite(fill).all())
    assert torch.allclose(fill[0, :, 0, 0], images[0, :, 3, 20], atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": 1.1}, {"side": 7}, {"side": 20.0}]
)
def test_bad_numbers_are_refused(options):
    with pytest.raises(InputError, match=r"threshold must be in \(0, 1\] and side an integer >= 8"):
        Inpaint(**options)
