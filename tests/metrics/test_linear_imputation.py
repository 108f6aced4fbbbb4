import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saliencykit.metrics import linear_imputation
from saliencykit.metrics.linear_imputation import Imputer, impute


def scene(seed, side):
    """A smooth image with an edge, and a mask of blobs."""
    generator = torch.Generator().manual_seed(seed)
    image = F.interpolate(
        torch.rand(1, 3, 6, 6, generator=generator), size=side, mode="bicubic"
    ).clamp(0, 1)
    image[..., side // 2 :] *= 0.5
    return image, F.interpolate(
        torch.rand(1, 1, 7, 7, generator=generator), size=side, mode="bilinear"
    )


def slow(image, kept):
    """Each equation of the published system written out, solved at once; image (C, H, W), kept (H,
    W).
    """
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
    for at, color in zip(unknown, np.linalg.solve(system, right), strict=True):
        filled[:, at[0], at[1]] = color
    return filled


@pytest.mark.parametrize(
    "size", [(4, 5), (7, 7), (8, 8), (11, 14), (5, 29), (1, 90), (3, 67), (33, 18)]
)
@pytest.mark.parametrize("area", [0.05, 0.3, 0.8, 0.97])
def test_it_solves_the_published_system(size, area, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    image = F.interpolate(
        torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64), size=size, mode="bilinear"
    )
    kept = torch.rand(1, 1, *size, generator=generator) < area
    kept[..., 0, 1] = True
    exact = slow(image[0].numpy(), kept[0, 0].numpy())
    found = impute(image, kept)[0].numpy()
    assert np.abs(found - exact).mean() < 0.001
    assert np.array_equal(found[:, kept[0, 0].numpy()], image[0].numpy()[:, kept[0, 0].numpy()])
    monkeypatch.setattr(linear_imputation, "_TOLERANCE", 1e-10)
    monkeypatch.setattr(linear_imputation, "_MAX_STEPS", 60)
    assert np.abs(impute(image, kept)[0].numpy() - exact).max() < 1e-8


def test_it_converges_where_multigrid_alone_diverges():
    """One small blob that is kept, a ring along the edge, single pixels: the coarse grids are
    unlike the fine one.
    """
    from benchmarks.held_out import Road

    image = scene(3, 224)[0].double()  # rounding of float32 adds up over so large a hole
    blob, ring, dots = (torch.zeros(1, 1, 224, 224, dtype=torch.bool) for _ in range(3))
    blob[..., 150:190, 20:60] = True
    ring[..., :2] = ring[..., -1:] = True
    dots[..., ::9, ::7] = True
    kept = torch.cat([blob, ring, dots])
    exact = Road(std=0.0)(image.repeat(3, 1, 1, 1), generator=torch.Generator(), mask=kept.double())
    off = (impute(image.repeat(3, 1, 1, 1), kept) - exact).abs()
    assert bool((off.mean((1, 2, 3)) < 0.001).all())
    assert off.max() < 0.03


@pytest.mark.parametrize("side", [64, 97, pytest.param(224, marks=pytest.mark.slow)])
@pytest.mark.parametrize("area", [0.02, 0.1, 0.3, 0.7, 0.95])
def test_it_equals_the_exact_solution_of_the_benchmarks(side, area):
    from benchmarks.held_out import Road

    image, blobs = scene(side, side)
    kept = blobs >= blobs.quantile(1 - area)
    exact = Road(std=0.0)(image, generator=torch.Generator(), mask=kept.float())
    found = impute(image, kept)
    assert torch.equal(found[kept.expand_as(found)], image[kept.expand_as(image)])
    off = (found - exact).abs()
    assert off.mean() < 0.001
    assert off.max() < 0.03


def test_buffers_of_one_batch_do_not_affect_the_next():
    (image, blobs), (other, others) = scene(0, 33), scene(1, 33)
    imputer = Imputer(image)
    imputer(other, others > 0.7)
    assert torch.equal(imputer(image, blobs > 0.3), impute(image, blobs > 0.3))


def test_half_precision_images_are_supported():
    image, blobs = scene(0, 40)
    found = impute(image.half(), blobs > 0.5)
    assert found.dtype == torch.float16
    assert np.allclose(found.float(), impute(image, blobs > 0.5), atol=2e-3)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("side", [5, 40])
def test_nothing_kept_gives_the_mean_and_everything_kept_the_image(value, side):
    image, _ = scene(0, side)
    wanted = image if value else image.mean((2, 3), keepdim=True).expand_as(image)
    assert np.allclose(impute(image, torch.full((1, 1, side, side), value)), wanted, atol=1e-6)


def test_an_image_is_imputed_the_same_way_in_any_batch():
    pairs = [scene(seed, 48) for seed in range(3)]
    images, kept = (
        torch.cat([image for image, _ in pairs]),
        torch.cat([blobs >= 0.6 for _, blobs in pairs]),
    )
    kept[2] = False
    assert torch.equal(impute(images, kept)[1:2], impute(images[1:2], kept[1:2]))
