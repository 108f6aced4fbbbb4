import pytest
import torch

from benchmarks.held_out import Road
from saliencykit.core.errors import InputError
from saliencykit.metrics.held_out_alternatives import RoadImputation, ShuffledBlocks


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_imputation_is_close_to_the_exact_one(share):
    images = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 70, 60, generator=generator()), 5, 1)
    mask = (torch.rand(2, 1, 66, 56, generator=generator()) < share).float()
    quick, exact = (
        kind(std=0.0).edit(images, mask, generator()) for kind in (RoadImputation, Road)
    )
    assert (quick - exact).abs().mean() < 2e-3


def test_only_removed_pixels_get_noise_and_the_same_in_any_batch():
    images = torch.full((2, 3, 32, 32), 0.5)
    images[1] = 0.3
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :16] = 1
    fill = RoadImputation()(images, generator=generator(), mask=mask)
    assert bool((fill[0, ..., :16] == 0.5).all())
    assert fill[0, ..., 16:].std().item() == pytest.approx(0.01, rel=0.1)
    alone = RoadImputation()(images[1:], generator=generator(), mask=mask[1:])
    assert torch.allclose(fill[1:], alone, atol=1e-5)
    assert torch.allclose(
        RoadImputation(std=0.0)(images, generator=generator()),
        images.mean((2, 3), keepdim=True),
        atol=1e-6,
    )


def test_shuffled_blocks_keep_every_pixel():
    images = torch.arange(3 * 70 * 66.0).view(1, 3, 70, 66) / 1e5
    fill = ShuffledBlocks(block=16)(images, generator=generator())
    assert not torch.equal(fill, images)
    assert torch.equal(fill.flatten().sort().values, images.flatten().sort().values)
    assert torch.equal(fill[..., 64:, :], images[..., 64:, :])
    blocks = {
        tuple(b.flatten().tolist())
        for row in images[0, 0, :64, :64].split(16)
        for b in row.split(16, dim=1)
    }
    moved = {
        tuple(b.flatten().tolist())
        for row in fill[0, 0, :64, :64].split(16)
        for b in row.split(16, dim=1)
    }
    assert blocks == moved


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (16, 16), (33, 47)])
def test_blocks_of_small_images_are_halved(size):
    images = torch.rand(2, 1, *size, generator=generator())
    fill = ShuffledBlocks()(images, generator=generator())
    assert torch.allclose(fill.flatten(1).sort(1).values, images.flatten(1).sort(1).values)


def test_an_image_is_shuffled_the_same_way_in_any_batch():
    images = torch.rand(3, 3, 64, 64, generator=generator())
    together = ShuffledBlocks()(images, generator=generator())
    assert torch.equal(together[1:2], ShuffledBlocks()(images[1:2], generator=generator()))


@pytest.mark.parametrize(
    "make", [lambda: RoadImputation(std=-1.0), lambda: ShuffledBlocks(block=0)]
)
def test_wrong_arguments_are_refused(make):
    with pytest.raises(InputError):
        make()
