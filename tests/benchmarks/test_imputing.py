import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.imputing import impute
from benchmarks.unseen import Road


def scene(seed, side):
    """A smooth picture with an edge, and a mask of blobs."""
    generator = torch.Generator().manual_seed(seed)
    image = F.interpolate(torch.rand(1, 3, 6, 6, generator=generator), size=side, mode="bicubic").clamp(0, 1)
    image[..., side // 2 :] *= 0.5
    return image, F.interpolate(torch.rand(1, 1, 7, 7, generator=generator), size=side, mode="bilinear")


@pytest.mark.parametrize("side", [64, 97, 224])
@pytest.mark.parametrize("area", [0.02, 0.1, 0.3, 0.7, 0.95])
def test_it_is_roads_fill(side, area):
    image, blobs = scene(side, side)
    kept = blobs >= blobs.quantile(1 - area)
    exact = Road(std=0.0)(image, generator=torch.Generator(), mask=kept.float())
    found = impute(image, kept)
    assert torch.equal(found[kept.expand_as(found)], image[kept.expand_as(image)])
    off = (found - exact).abs()
    assert off.mean() < (0.003 if area < 0.1 else 0.0015)
    assert off.max() < 0.03


@pytest.mark.parametrize("value", [False, True])
def test_of_nothing_and_of_everything(value):
    image, _ = scene(0, 40)
    wanted = image if value else image.mean((2, 3), keepdim=True).expand_as(image)
    assert np.allclose(impute(image, torch.full((1, 1, 40, 40), value)), wanted, atol=1e-6)


def test_alone_and_in_a_batch():
    pairs = [scene(seed, 48) for seed in range(3)]
    images, kept = torch.cat([image for image, _ in pairs]), torch.cat([blobs >= 0.6 for _, blobs in pairs])
    assert torch.equal(impute(images, kept)[1:2], impute(images[1:2], kept[1:2]))
