import math

import pytest
import torch

from saliencykit.alternatives.constant import Constant
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.metrics.sufficient_region import SmallestDestroyingRegion, SmallestSufficientRegion

BLACK = Constant(color=0.0)


class Share(BlackBox):
    """The first class's probability is a function of how much of a white image is left."""

    num_classes, differentiable = 2, False

    def __init__(self, function):
        self.function, self.queries = function, 0

    def logits(self, images):
        self.queries += len(images)
        p = self.function(images.mean((1, 2, 3))).clamp(1e-6, 1 - 1e-6)
        return torch.stack([p, 1 - p], 1).log()


@pytest.fixture
def white():
    maps = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.ones(3, 3, 16, 16, dtype=torch.float64), torch.zeros(3, dtype=torch.int64), maps


def curve(black_box, image, label, values, fill, chosen, keep):
    """The probability at every number of pixels."""
    found = []
    for count in range(values.size + 1):
        mask = chosen(values, count)
        mask = mask if keep else 1 - mask
        found.append(black_box.p(image * mask + fill * (1 - mask), label))
    return found


@pytest.mark.parametrize(
    "metric",
    [
        SmallestSufficientRegion(resolution=1 / 154),
        SmallestDestroyingRegion(resolution=1 / 154, confidence=0.6, alternative=BLACK),
    ],
)
def test_it_finds_a_crossing_of_the_full_curve(metric, weighing, scores_of, some, chosen):
    """Against all 155 sizes, one by one: at the area found it passes, with one pixel less it does
    not.
    """
    images, _, maps = some
    labels = weighing(images).argmax(1)
    fills = metric.alternative(images, generator=torch.Generator()).numpy()
    got, applies = scores_of(metric, weighing, images, labels, maps), 0
    for i in range(4):
        keep = isinstance(metric, SmallestSufficientRegion)
        all_sizes = curve(
            weighing, images[i].numpy(), labels[i], maps[i, 0].numpy(), fills[i], chosen, keep
        )
        limit = metric.confidence * (all_sizes[-1] if keep else all_sizes[0])
        passes = [p >= limit if keep else p <= limit for p in all_sizes]
        area = got["area"][i].item()
        if not passes[-1] or (not keep and passes[0]):
            assert math.isnan(area)
            continue
        applies += 1
        count = round(area * 154)
        assert passes[count]
        assert count == 0 or not passes[count - 1]
        assert got["probability"][i].item() == pytest.approx(all_sizes[count], abs=1e-9)
    assert applies


@pytest.mark.parametrize(("metric", "wanted"), [
    (SmallestSufficientRegion(alternative=BLACK), 0.9),
    (SmallestSufficientRegion(alternative=BLACK, confidence=0.3), 0.3),
    (SmallestSufficientRegion(alternative=BLACK, confidence=0.3, relative_to="value"), 0.3),
    (SmallestDestroyingRegion(alternative=BLACK), 0.9),
    (SmallestDestroyingRegion(alternative=BLACK, confidence=0.7, relative_to="value"), 0.3),
])  # fmt: skip
def test_on_a_straight_line_the_area_is_exact_to_the_resolution(metric, wanted, white, scores_of):
    got = scores_of(metric, Share(lambda share: share), *white)
    assert got["area"].tolist() == pytest.approx([wanted] * 3, abs=1 / 256 + 1e-6)


def test_the_resolution_sets_the_number_of_queries(white, scores_of):
    for resolution, rounds in ((1 / 4, 2), (1 / 16, 4), (0.3, 2), (1 / 10000, 8)):
        black_box = Share(lambda share: share)
        got = scores_of(
            SmallestSufficientRegion(alternative=BLACK, confidence=0.33, resolution=resolution),
            black_box,
            *white,
        )
        assert black_box.queries == 3 * (2 + rounds)
        assert bool((got["area"] >= 0.33 - 1e-6).all())
        assert bool((got["area"] <= 0.33 + max(resolution, 1 / 256) + 1e-6).all())


def test_where_no_area_passes_scores_are_nan(white, scores_of):
    half = Share(lambda share: share * 0.5)
    whole = {"confidence": 0.9, "alternative": BLACK, "relative_to": "value"}
    assert bool(scores_of(SmallestSufficientRegion(**whole), half, *white)["area"].isnan().all())
    assert bool(scores_of(SmallestDestroyingRegion(**whole), half, *white)["area"].isnan().all())
    never = scores_of(
        SmallestDestroyingRegion(alternative=BLACK), Share(lambda share: 0.5 + share * 0.2), *white
    )
    assert bool(never["area"].isnan().all() and never["probability"].isnan().all())
    at_once = scores_of(
        SmallestSufficientRegion(alternative=BLACK), Share(lambda share: 0.7 + share * 0.0), *white
    )
    assert at_once["area"].tolist() == [0, 0, 0]
    assert at_once["probability"].tolist() == pytest.approx([0.7] * 3)


def test_of_several_crossings_one_is_found(white, scores_of):
    bump = Share(lambda share: ((share > 0.1) & (share < 0.2) | (share > 0.6)).double() * 0.8 + 0.1)
    area = scores_of(SmallestSufficientRegion(alternative=BLACK), bump, *white)["area"]
    assert bool((((area - 0.1).abs() < 0.01) | ((area - 0.6).abs() < 0.01)).all())


def test_an_image_scores_the_same_in_any_batch(weighing, scores_of, some):
    images, labels, maps = some
    for metric in (SmallestSufficientRegion(), SmallestDestroyingRegion(confidence=0.6)):
        together = scores_of(metric, weighing, images, labels, maps)["area"]
        alone = torch.cat(
            [
                scores_of(metric, weighing, images[i:][:1], labels[i:][:1], maps[i:][:1])["area"]
                for i in range(4)
            ]
        )
        assert torch.equal(together.nan_to_num(-1), alone.nan_to_num(-1))


@pytest.mark.parametrize("metric", [SmallestSufficientRegion, SmallestDestroyingRegion])
@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": 0.0},
        {"confidence": 1.0},
        {"relative_to": "mean"},
        {"resolution": 0.0},
        {"alternative": "blur"},
    ],
)
def test_wrong_arguments_are_refused(metric, wrong):
    with pytest.raises(InputError, match=metric.__name__):
        metric(**wrong)
