import pytest
import torch

from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.constant import Constant
from saliencykit.data.training_images import TrainingImages
from saliencykit.surrogate.masked_images import (
    AREAS,
    draw_masks,
    held_out_images,
    training_images,
)


@pytest.fixture
def photos(generator):
    return TrainingImages(
        torch.randint(256, (10, 3, 20, 24), dtype=torch.uint8, generator=generator), None
    )


@pytest.mark.parametrize("exact", [False, True])
def test_masks_keep_the_share_that_is_wanted(generator, exact):
    kept = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]).repeat(60)
    masks = draw_masks(kept, (20, 24), generator, exact=exact)
    assert masks.shape == (300, 1, 20, 24)
    assert masks.min() >= 0
    assert masks.max() <= 1
    means = masks.mean((1, 2, 3)).view(60, 5)
    assert torch.allclose(means.mean(0), kept[:5], atol=0.06)
    if exact:
        assert (means - kept[:5]).abs().max() < 0.15
    # of nine cells now and then none is kept
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 280
    coarse = (masks[:, :, 1:] - masks[:, :, :-1]).abs().mean()
    assert coarse < 0.12  # areas, not grains


def test_whole_masked_and_cropped_photos_of_all(photos):
    queried = training_images(photos, 500, Constant(color=0.0), seed=3)
    assert len(queried) == 500
    assert queried.pixels.dtype == torch.uint8
    assert torch.equal(queried.source.bincount(), torch.full((10,), 50))
    assert set(queried.source[:10].tolist()) == set(range(10))  # each once before any comes again
    whole = queried.area == 1
    assert 0.1 < whole.float().mean() < 0.3
    as_it_was = [
        torch.equal(p, photos.pixels[n])
        for p, n in zip(queried.pixels[whole], queried.source[whole], strict=True)
    ]
    assert 0.25 < sum(as_it_was) / len(as_it_was) < 0.75  # the rest are crops
    assert queried.area[~whole].min() < 0.1
    assert queried.area[~whole].max() > 0.9
    share_of_black = (queried.pixels[~whole] == 0).float().mean((1, 2, 3))
    assert torch.corrcoef(torch.stack([share_of_black, queried.area[~whole]]))[0, 1] < -0.5


def test_a_larger_budget_begins_like_a_smaller_one(photos):
    few, many = (training_images(photos, count, Choice(), seed=3) for count in (70, 200))
    for name in ("pixels", "source", "area"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:70])
    other = training_images(photos, 70, Choice(), seed=4)
    assert not torch.equal(few.pixels, other.pixels)


def test_held_out_photos_are_whole_and_at_each_area(photos):
    queried = held_out_images(photos, Constant(color=0.0), seed=0)
    assert torch.equal(queried.source, torch.arange(10).repeat_interleave(1 + len(AREAS)))
    assert torch.equal(queried.pixels[::5], photos.pixels)
    areas = queried.area.view(10, 5)
    assert bool((areas[:, 0] == 1).all())
    assert torch.allclose(areas[:, 1:].mean(0), torch.tensor(AREAS), atol=0.08)
    assert torch.equal(queried.images(torch.tensor([5])), photos.images(torch.tensor([1])))
