"""The score against a slow numpy version, on a black box whose answer is a formula."""

import numpy as np
import pytest
import torch

from benchmarks.data import Photo
from benchmarks.localization import CROPS, CUTS, boxes_of
from benchmarks.scoring import AREAS, SEARCHED, SHARES, Scorer
from saliencykit.alternatives.blur import Blur
from saliencykit.core.black_box import BlackBox

SIDE = 24


class Weighing(BlackBox):
    """Two classes: a weighted sum of the pixels against nothing."""

    num_classes, differentiable = 2, True

    def __init__(self):
        self.weights = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) / 10

    def logits(self, images):
        value = (images * self.weights).sum((1, 2, 3))
        return torch.stack([value, torch.zeros_like(value)], 1)

    def p(self, image):
        return 1 / (1 + np.exp(-(image * self.weights.numpy()).sum()))


@pytest.fixture
def photo():
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return Photo("x", image, 0, torch.tensor([[2.0, 2.0, 10.0, 10.0]]))


@pytest.fixture
def mask():
    return torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)).square()


def test_graded_masks_keep_and_drop(photo, mask):
    black_box = Weighing()
    kept, dropped = Scorer(black_box, photo).graded(mask)["blur"]
    image, m = photo.image[0].numpy(), mask[0].numpy()
    blurred = Blur()(photo.image, generator=torch.Generator())[0].numpy()
    assert kept == pytest.approx(black_box.p(image * m + blurred * (1 - m)), abs=1e-4)
    assert dropped == pytest.approx(black_box.p(image * (1 - m) + blurred * m), abs=1e-4)


def test_equal_areas_insertion_and_deletion(photo, mask):
    black_box = Weighing()
    score = Scorer(black_box, photo)
    places = score.places(mask)
    image, ranking = photo.image[0].numpy(), mask[0, 0].numpy()
    blurred = Blur()(photo.image, generator=torch.Generator())[0].numpy()

    def top(share):
        """1 on the best pixels, by sorting values."""
        least = sorted(ranking.flat, reverse=True)[max(0, round(share * ranking.size) - 1)]
        return (ranking >= least) * 1.0 if round(share * ranking.size) else np.zeros_like(ranking)

    found = score.at_areas(places, AREAS)
    for area in AREAS:
        m = top(area)
        assert found[f"blur/{area}"][0] == pytest.approx(
            black_box.p(image * m + blurred * (1 - m)), abs=1e-4
        )
        assert found[f"blur/{area}"][1] == pytest.approx(
            black_box.p(image * (1 - m) + blurred * m), abs=1e-4
        )
    inserted, deleted = score.insertion(places), score.deletion(places)
    assert len(inserted) == len(deleted) == len(SHARES)
    for share, up, down in zip(SHARES, inserted, deleted, strict=True):
        m = top(share)
        assert up == pytest.approx(black_box.p(image * m + blurred * (1 - m)), abs=1e-4)
        assert down == pytest.approx(black_box.p(image * (1 - m) + 0.5 * m), abs=1e-4)


def test_ties_go_to_the_middle(photo):
    flat = torch.zeros(1, 1, SIDE, SIDE)
    flat[..., 0, 0] = 1
    places = Scorer(Weighing(), photo).places(flat)
    assert places[0, 0, 0, 0] == places.min()
    best = (places < 0.25)[0, 0].nonzero().float()[1:]
    assert (best - (SIDE - 1) / 2).norm(dim=1).max() < SIDE * (0.25 / np.pi) ** 0.5 + 1
    assert Scorer(Weighing(), photo).places(torch.ones(1, 1, SIDE, SIDE)) is None


def test_the_unseen_fills_leave_what_is_kept(photo, mask):
    score = Scorer(Weighing(), photo)
    binary = (mask >= 0.5).float()
    for fill in ("road", "shuffled"):
        edit = score.edit(binary, fill)
        assert torch.equal(edit * binary, photo.image * binary)
        assert (edit != photo.image).float().mean() > 0.5
    assert torch.equal(score.edit(mask, "road"), score.edit(binary, "road"))


def test_smallest_regions_are_found_where_there_are_any(photo, mask):
    score = Scorer(Weighing(), photo)
    sufficient, destroying = score.regions(score.places(mask))
    assert 0 <= sufficient <= 1
    assert destroying is None or 0 < destroying <= 1


def test_a_search_shows_the_crop_of_each_area(photo, mask):
    score = Scorer(Weighing(), photo)
    found = score.searched(score.places(mask))
    assert len(found) == len(SEARCHED)
    assert found[-1] == score.shown([(0, 0, SIDE, SIDE)])[0, 0, SIDE, SIDE]  # all are connected
    wedge = torch.arange(float(SIDE)).expand(1, 1, SIDE, SIDE)  # the best pixels are on the right
    (area, *_), *_ = score.searched(score.places(wedge))
    assert area <= 2 / SIDE


def test_crops_are_enlarged_boxes(photo, mask):
    black_box = Weighing()
    boxes = boxes_of(mask[0, 0].numpy())
    crops = Scorer(black_box, photo).crops(boxes)
    for mode, answers in crops.items():
        for crop, (area, log_p, right) in zip(CROPS, answers, strict=True):
            x0, y0, x1, y1 = boxes[mode][CUTS.index(crop)]
            assert area == pytest.approx((x1 - x0) * (y1 - y0) / SIDE**2, abs=1e-4)
            part = photo.image[0, :, y0:y1, x0:x1].numpy()
            # bilinear by hand: output pixel i lies at (i + 1/2) * n / SIDE - 1/2 of the n input
            # pixels
            for axis in (1, 2):
                n = part.shape[axis]
                at = np.clip((np.arange(SIDE) + 0.5) * n / SIDE - 0.5, 0, n - 1)
                low = np.floor(at).astype(int)
                share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
                part = (
                    part.take(low, axis) * (1 - share)
                    + part.take(np.minimum(low + 1, n - 1), axis) * share
                )
            p = black_box.p(part)
            assert log_p == pytest.approx(np.log(p), abs=2e-3)
            assert right == (p >= 0.5)
