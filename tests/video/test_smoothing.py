import pytest
import torch
import torch.nn.functional as F

from saliencykit.video.smoothing import MotionEstimator, MotionSteps, Smoothing


def steps(*cuts):
    return MotionSteps(torch.zeros(len(cuts), 2, 8, 8), torch.ones(len(cuts), 1, 8, 8), cuts)


def smooth_image(generator, size=64):
    coarse = torch.rand(1, 3, 12, 12, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def test_on_a_still_image_it_is_the_exponential_average(generator):
    masks = torch.rand(6, 1, 8, 8, generator=generator)
    got = Smoothing(0.7)(masks, torch.zeros(6).long(), steps(True, *[False] * 5))
    wanted = [masks[0]]
    for mask in masks[1:]:
        wanted.append(0.7 * wanted[-1] + 0.3 * mask)
    assert torch.allclose(got, torch.stack(wanted), atol=1e-5)


def test_jitter_is_less_than_half(generator):
    masks = 0.5 + 0.1 * torch.randn(200, 1, 8, 8, generator=generator)
    got = Smoothing(0.7)(masks, torch.zeros(200).long(), steps(True, *[False] * 199))
    assert got.diff(dim=0).abs().mean() < 0.4 * masks.diff(dim=0).abs().mean()


@pytest.mark.parametrize("why", ["cut", "label", "size"])
def test_it_begins_anew(why, generator):
    masks = torch.rand(2, 1, 8, 8, generator=generator)
    smoothing = Smoothing(0.7)
    smoothing(masks[:1], torch.tensor([1]), steps(True))
    second = masks[1:] if why != "size" else torch.rand(1, 1, 4, 4, generator=generator)
    got = smoothing(second, torch.tensor([2 if why == "label" else 1]), steps(why == "cut"))
    assert torch.equal(got, second)


def test_the_past_moves_with_the_image():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2] = 1
    moving = MotionSteps(torch.zeros(2, 2, 8, 8), torch.ones(2, 1, 8, 8), (True, False))
    moving.flow[1, 0] = -3  # what is at x was at x - 3
    after = torch.zeros(1, 1, 8, 8)
    after[..., 5] = 1
    got = Smoothing(0.9)(torch.cat([mask, after]), torch.tensor([0, 0]), moving)
    assert torch.allclose(got[1], after[0], atol=1e-5)


def test_where_something_came_in_the_new_mask_counts_alone(generator):
    masks = torch.rand(2, 1, 8, 8, generator=generator)
    news = MotionSteps(torch.zeros(2, 2, 8, 8), torch.ones(2, 1, 8, 8), (True, False))
    news.known[1, :, :, 4:] = 0
    got = Smoothing(0.8)(masks, torch.tensor([0, 0]), news)
    assert torch.equal(got[1, :, :, 5:], masks[1, :, :, 5:])
    assert not torch.allclose(got[1, :, :, :3], masks[1, :, :, :3])


def test_without_a_share_masks_are_as_they_were(generator):
    masks = torch.rand(3, 1, 8, 8, generator=generator)
    assert Smoothing(0.0)(masks, torch.zeros(3).long(), steps(True, False, False)) is masks


def test_batches_do_not_matter(generator):
    wide = F.interpolate(smooth_image(generator, 96), size=(96, 128), mode="bilinear")
    images = torch.cat([wide[..., 16:80, 2 * i : 2 * i + 64] for i in range(7)])
    masks, labels = torch.rand(7, 1, 16, 16, generator=generator), torch.zeros(7).long()
    watch, smoothing = MotionEstimator(), Smoothing(0.6)
    whole = smoothing(masks, labels, watch(images))
    watch, smoothing = MotionEstimator(), Smoothing(0.6)
    parts = [
        smoothing(masks[i : i + 3], labels[i : i + 3], watch(images[i : i + 3]))
        for i in range(0, 7, 3)
    ]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-4)


def test_cuts_are_found_and_pans_are_none(generator):
    first, second = smooth_image(generator, 96), smooth_image(generator, 96)
    shots = [scene[..., 10:74, 4 * i : 4 * i + 64] for scene in (first, second) for i in range(5)]
    found = MotionEstimator()(torch.cat(shots)).cuts
    assert found == (True, False, False, False, False, True, False, False, False, False)


def test_noise_and_light_are_no_cuts(generator):
    image = smooth_image(generator)
    noisy = [image + 0.03 * torch.randn(image.shape, generator=generator) for _ in range(4)]
    assert MotionEstimator()(torch.cat([*noisy, image * 0.95])).cuts == (
        True,
        False,
        False,
        False,
        False,
    )


def test_another_size_begins_a_shot(generator):
    watch = MotionEstimator()
    watch(torch.rand(1, 3, 32, 32, generator=generator))
    assert watch(torch.rand(1, 3, 16, 32, generator=generator)).cuts == (True,)
