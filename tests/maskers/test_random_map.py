import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.maskers.random_map import RandomMap


def test_a_picture_has_its_own_map_on_its_own_and_in_a_batch(black_box, examples):
    images, labels = examples
    together = RandomMap()(black_box, images, labels, generator=torch.Generator().manual_seed(3))
    alone = RandomMap()(
        black_box, images[2:3], labels[:1], generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(together[2], alone[0]), "neither the batch nor the label counts"
    assert not torch.equal(together[0], together[1])
    other = RandomMap()(black_box, images, labels, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(together, other)


def test_it_is_uniform_noise_of_so_many_cells(black_box, examples):
    images, labels = examples
    found = RandomMap(grid_size=16)(
        black_box, images, labels, generator=torch.Generator().manual_seed(0)
    )
    assert 0.45 < float(found.mean()) < 0.55
    assert 0.07 < float(found.var()) < 0.1  # 1/12
    coarse = RandomMap(grid_size=2)(
        black_box, images, labels, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(coarse[..., :4, :4], coarse[..., :1, :1].expand(-1, -1, 4, 4)), (
        "the corners are flat, it is enlarged"
    )


@pytest.mark.parametrize("grid_size", [0, 2.5])
def test_a_bad_grid_size_is_refused(grid_size):
    with pytest.raises(InputError, match="grid_size"):
        RandomMap(grid_size=grid_size)
