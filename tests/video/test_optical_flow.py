import pytest
import torch
import torch.nn.functional as F

from saliencykit.video.optical_flow import SIDE, flow_back, known, moved, small_gray


@pytest.fixture
def scene(generator):
    """A smooth random image, larger than what is shown of it."""
    coarse = torch.rand(1, 1, 24, 24, generator=generator)
    return F.interpolate(coarse, size=(160, 160), mode="bicubic")


def window(scene, x, y, side=64):
    """What a camera at x, y (whole or not) sees."""
    grid = torch.arange(side) + 0.5
    place = torch.stack(
        [(x + grid)[None, :].expand(side, side), (y + grid)[:, None].expand(side, side)], -1
    )
    return F.grid_sample(scene, (place / 160 * 2 - 1)[None], align_corners=False)


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.3, -0.2), (2.0, 1.0), (-6.5, 4.0)])
def test_a_pan_is_found_to_a_tenth_of_a_pixel(scene, dx, dy):
    before, now = window(scene, 40, 40), window(scene, 40 + dx, 40 + dy)
    # a point of now was further right by dx in before: p + (dx, dy)
    flow = flow_back(before, now)[0, :, 14:-14, 14:-14]
    assert flow[0].mean().item() == pytest.approx(dx, abs=0.1)
    assert flow[1].mean().item() == pytest.approx(dy, abs=0.1)


def test_a_zoom_is_a_flow_that_grows_from_the_center(scene):
    before = window(scene, 40, 40)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    place = torch.stack([32 + (x - 32) * 0.95, 32 + (y - 32) * 0.95], -1)
    now = F.grid_sample(before, (place / 64 * 2 - 1)[None], align_corners=False)
    flow = flow_back(before, now)[0]
    assert (flow[0] - (place[..., 0] - x)).abs().mean() < 0.15
    assert (flow[1] - (place[..., 1] - y)).abs().mean() < 0.15


def test_pairs_of_a_batch_do_not_see_each_other(scene):
    before = torch.cat([window(scene, 40, 40), window(scene, 10, 60)])
    now = torch.cat([window(scene, 42, 40), window(scene, 10, 55)])
    together = flow_back(before, now)
    alone = torch.cat([flow_back(before[i : i + 1], now[i : i + 1]) for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_what_is_moved_lands_on_what_it_was(scene):
    before, now = window(scene, 40, 40), window(scene, 43, 38)
    back = moved(before, flow_back(before, now))
    assert (back - now)[..., 8:-8, 8:-8].abs().mean() < 0.05 * (before - now)[
        ..., 8:-8, 8:-8
    ].abs().mean()


def test_a_map_of_another_size_moves_by_the_same_share():
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 4.0  # a quarter of the width
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 20] = 1.0
    assert moved(mask, flow)[0, 0, 16].argmax() == 12


def test_the_same_image_is_known_and_another_one_is_not(scene, generator):
    before = window(scene, 40, 40)
    still = torch.zeros(1, 2, 64, 64)
    assert known(before, before, still).min() == 1
    other = F.interpolate(
        torch.rand(1, 1, 24, 24, generator=generator), size=(64, 64), mode="bicubic"
    )
    assert known(before, other, flow_back(before, other)).mean() < 0.5


def test_what_came_in_from_outside_is_new(scene):
    before, now = window(scene, 40, 40), window(scene, 50, 40)
    found = known(before, now, flow_back(before, now))[0, 0]
    assert found[:, :50].mean() > 0.9
    assert found[:, 56:].mean() < 0.1


def test_flat_and_tiny_images_do_no_harm():
    for size in ((64, 64), (1, 1), (3, 40)):
        flat = torch.zeros(2, 1, *size)
        flow = flow_back(flat, flat)
        assert flow.shape == (2, 2, *size)
        assert flow.abs().max() < 1e-3
        assert known(flat, flat, flow).min() == 1


def test_the_short_side_is_reduced_and_small_images_stay():
    assert small_gray(torch.rand(2, 3, 224, 448)).shape == (2, 1, SIDE, 2 * SIDE)
    assert small_gray(torch.rand(1, 1, 32, 40)).shape == (1, 1, 32, 40)
