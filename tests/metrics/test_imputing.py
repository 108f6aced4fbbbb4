import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saliencykit.metrics.imputing import impute


def scene(seed, side):
    """A smooth picture with an edge, and a mask of blobs."""
    generator = torch.Generator().manual_seed(seed)
    image = F.interpolate(torch.rand(1, 3, 6, 6, generator=generator), size=side, mode="bicubic").clamp(0, 1)
    image[..., side // 2 :] *= 0.5
    return image, F.interpolate(torch.rand(1, 1, 7, 7, generator=generator), size=side, mode="bilinear")


def slow(image, kept):
    """Each equation of the published system written out, solved at once; image (C, H, W), kept (H, W)."""
    channels, height, width = image.shape
    unknown = [(y, x) for y in range(height) for x in range(width) if not kept[y, x]]
    number = {at: i for i, at in enumerate(unknown)}
    system, right = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), channels))
    for (y, x), i in number.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at = (y + dy, x + dx)
                if (dy or dx) and 0 <= at[0] < height and 0 <= at[1] < width:
                    weight = 1 / 12 if dy and dx else 1 / 6
                    system[i, i] += weight
                    if at in number:
                        system[i, number[at]] -= weight
                    else:
                        right[i] += weight * image[:, at[0], at[1]]
    filled = image.copy()
    for at, colour in zip(unknown, np.linalg.solve(system, right), strict=True):
        filled[:, at[0], at[1]] = colour
    return filled


@pytest.mark.parametrize("size", [(4, 5), (7, 7), (8, 8), (11, 14), (5, 9)])
@pytest.mark.parametrize("area", [0.05, 0.3, 0.8, 0.97])
def test_it_solves_the_published_system(size, area):
    generator = torch.Generator().manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64), size=size, mode="bilinear")
    kept = torch.rand(1, 1, *size, generator=generator) < area
    kept[..., 1, 1] = True
    exact = slow(image[0].numpy(), kept[0, 0].numpy())
    found = impute(image, kept)[0].numpy()
    assert np.abs(found - exact).mean() < 0.003
    assert np.array_equal(found[:, kept[0, 0].numpy()], image[0].numpy()[:, kept[0, 0].numpy()])


@pytest.mark.parametrize("side", [64, 97, 224])
@pytest.mark.parametrize("area", [0.02, 0.1, 0.3, 0.7, 0.95])
def test_it_is_the_fill_that_the_benchmarks_solve_for_exactly(side, area):
    from benchmarks.unseen import Road

    image, blobs = scene(side, side)
    kept = blobs >= blobs.quantile(1 - area)
    exact = Road(std=0.0)(image, generator=torch.Generator(), mask=kept.float())
    found = impute(image, kept)
    assert torch.equal(found[kept.expand_as(found)], image[kept.expand_as(image)])
    off = (found - exact).abs()
    assert off.mean() < (0.003 if area < 0.1 else 0.0015)
    assert off.max() < 0.03


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("side", [5, 40])
def test_of_nothing_and_of_everything(value, side):
    image, _ = scene(0, side)
    wanted = image if value else image.mean((2, 3), keepdim=True).expand_as(image)
    assert np.allclose(impute(image, torch.full((1, 1, side, side), value)), wanted, atol=1e-6)


def test_alone_and_in_a_batch():
    pairs = [scene(seed, 48) for seed in range(3)]
    images, kept = torch.cat([image for image, _ in pairs]), torch.cat([blobs >= 0.6 for _, blobs in pairs])
    kept[2] = False
    assert torch.equal(impute(images, kept)[1:2], impute(images[1:2], kept[1:2]))
