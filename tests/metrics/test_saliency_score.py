import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.noise import Noise
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.metrics.saliency_score import SaliencyScore, saliency_score_in_place
from saliencykit.testing.black_boxes import Counting, PlantedEvidence
from saliencykit.testing.strategies import images, masks


class Thirds(BlackBox):
    """Logits are the mean colors of the image's middle third."""

    num_classes, differentiable = 3, True

    def logits(self, images):
        third = images.shape[2] // 3
        return images[:, :, third : images.shape[2] - third].mean((2, 3)) * 7


def score(x, y, mask, metric=None, black_box=None):
    return (metric or SaliencyScore())(
        black_box or Thirds(),
        Sample(x, y),
        mask,
        explain=lambda images, labels: mask,
        generator=torch.Generator(),
    )


def resized(crop, height, width):
    """Bilinear, pixel centers half a pixel inside, one channel, slowly."""
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = np.clip((i + 0.5) * crop.shape[0] / height - 0.5, 0, crop.shape[0] - 1)
            x = np.clip((j + 0.5) * crop.shape[1] / width - 0.5, 0, crop.shape[1] - 1)
            a, b = int(np.floor(y)), int(np.floor(x))
            for k, wy in ((a, 1 - (y - a)), (min(a + 1, crop.shape[0] - 1), y - a)):
                for m, wx in ((b, 1 - (x - b)), (min(b + 1, crop.shape[1] - 1), x - b)):
                    out[i, j] += wy * wx * crop[k, m]
    return out


def slow(image, label, mask, threshold, floor):
    height, width = mask.shape
    ys, xs = np.nonzero(mask >= threshold)
    top, low, left, right = (
        (ys.min(), ys.max(), xs.min(), xs.max()) if len(ys) else (0, height - 1, 0, width - 1)
    )
    area = (low - top + 1) * (right - left + 1) / (height * width)
    crop = np.stack([resized(c[top : low + 1, left : right + 1], height, width) for c in image])
    third = height // 3
    z = crop[:, third : height - third].mean((1, 2)) * 7
    p = np.exp(z) / np.exp(z).sum()
    return {
        "score": np.log(max(area, floor)) - np.log(p[label]),
        "area": area,
        "crop_accuracy": float(p.argmax() == label),
    }


@given(st.data())
def test_it_equals_a_slow_reference(data):
    x = data.draw(images(batch=2, size=data.draw(st.sampled_from([(6, 9), (7, 5)]))))
    mask = data.draw(masks(batch=2, size=tuple(x.shape[2:])))
    y = torch.tensor([0, 2])
    for metric in (
        SaliencyScore(),
        SaliencyScore(threshold=0.9, floor=0.3),
        SaliencyScore(threshold=1.0, relative_to="mean"),
    ):
        got = score(x, y, mask, metric)
        for i in range(2):
            level = metric.threshold * (
                float(mask[i].mean()) if metric.relative_to == "mean" else 1.0
            )
            expected = slow(x[i].numpy(), int(y[i]), mask[i, 0].numpy(), level, metric.floor)
            if level == mask[i].max() and metric.relative_to == "mean":
                # a constant mask: whether rounding puts the pixels below their own mean is not the
                # point
                continue
            np.testing.assert_allclose(
                [got[k][i] for k in ("score", "area")],
                [expected["score"], expected["area"]],
                rtol=1e-7,
                atol=1e-9,
            )
    assert set(got) == {"score", "area", "crop_accuracy"}


def test_crop_accuracy_and_area_equal_hand_computed_values():
    x = torch.zeros(2, 3, 6, 6)
    x[:, 0], x[:, 1, 3:, 3:] = 0.5, 1.0
    mask = torch.zeros(2, 1, 6, 6)
    mask[0, 0, 3:, 3:], mask[1, 0, :3, :2] = 1, 1
    got = score(x, torch.tensor([1, 1]), mask)
    assert got["crop_accuracy"].tolist() == [1.0, 0.0]
    assert got["area"].tolist() == pytest.approx([0.25, 6 / 36])


def test_the_whole_image_scores_its_cross_entropy():
    black_box = PlantedEvidence()
    x, y = black_box.examples(4, generator=torch.Generator().manual_seed(0))
    got = score(x, y, torch.ones(4, 1, 16, 16), black_box=black_box)
    assert torch.allclose(
        got["score"],
        torch.nn.functional.cross_entropy(black_box(x), y, reduction="none"),
        atol=1e-5,
    )
    # an empty mask is the whole image
    assert torch.equal(
        got["score"], score(x, y, torch.zeros(4, 1, 16, 16), black_box=black_box)["score"]
    )


def test_the_best_possible_value_is_the_floor():
    x = torch.zeros(1, 3, 20, 20)
    x[:, 0] = 10.0
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 5, 5] = 1
    got = score(x, torch.tensor([0]), mask)
    assert got["area"].item() == pytest.approx(1 / 400)
    assert got["score"].item() == pytest.approx(np.log(0.05), abs=1e-5)


def test_it_grows_with_the_area_at_a_fixed_probability():
    x = torch.full((1, 3, 12, 12), 0.5)
    values = []
    for side in range(1, 13):
        mask = torch.zeros(1, 1, 12, 12)
        mask[..., :side, :side] = 1
        values.append(score(x, torch.tensor([0]), mask)["score"].item())
    assert values == sorted(values)
    assert values[0] == values[1] == pytest.approx(np.log(0.05) + np.log(3), abs=1e-5)
    assert values[-1] == pytest.approx(np.log(3), abs=1e-5)


@given(masks(batch=1, size=(7, 6)), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_larger_threshold_never_enlarges_a_box_that_is_not_empty(mask, one, other):
    low, high = sorted((one, other))
    x, y = torch.zeros(1, 3, 7, 6), torch.tensor([0])
    if bool((mask >= high).any()):
        large, small = (score(x, y, mask, SaliencyScore(threshold=t))["area"] for t in (low, high))
        assert small <= large


@given(masks(batch=2, size=(8, 8)), st.floats(0.1, 0.9))
def test_relative_to_the_mean_the_scale_of_the_mask_does_not_count(mask, factor):
    x, y = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    metric = SaliencyScore(threshold=1.5, relative_to="mean")
    sure = ((mask - 1.5 * mask.mean((1, 2, 3), keepdim=True)).abs() > 1e-9).all()
    if sure:
        assert torch.equal(
            score(x, y, mask, metric)["area"], score(x, y, mask * factor, metric)["area"]
        )


def test_one_query_per_image():
    black_box = Counting(PlantedEvidence())
    x, y = black_box.black_box.examples(3, generator=torch.Generator().manual_seed(0))
    score(x, y, torch.ones(3, 1, 16, 16), black_box=black_box)
    assert black_box.num_images == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"threshold": 0.0, "relative_to": "mean"},
        {"floor": 0},
        {"floor": 1.5},
        {"relative_to": "energy"},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(InputError, match="SaliencyScore"):
        SaliencyScore(**wrong)


def test_lower_is_better():
    assert SaliencyScore.higher_is_better is False
    assert SaliencyScore(threshold=2.0, relative_to="mean").threshold == 2.0


@pytest.mark.parametrize("alternative", [Blur(sigma=2.0), Noise()])
def test_in_place_it_equals_a_slow_reference(weighing, scores_of, some, alternative):
    images, labels, maps = some
    maps = (
        (maps - 0.45).clamp_min(0) * 1.8 * (torch.arange(14) > 5) * (torch.arange(11) < 8)[:, None]
    )
    fills = alternative(images, generator=torch.Generator().manual_seed(0)).numpy()
    got = scores_of(
        saliency_score_in_place(alternative=alternative, floor=0.2), weighing, images, labels, maps
    )
    for i in range(4):
        ys, xs = np.nonzero(maps[i, 0].numpy() >= 0.5)
        top, low, left, right = (
            (ys.min(), ys.max(), xs.min(), xs.max()) if len(ys) else (0, 10, 0, 13)
        )
        edit = fills[i].copy()
        edit[:, top : low + 1, left : right + 1] = images[i].numpy()[
            :, top : low + 1, left : right + 1
        ]
        area = (low - top + 1) * (right - left + 1) / 154
        expected = {"area": area, "crop_accuracy": float(weighing.top(edit) == labels[i])}
        expected["score"] = np.log(max(area, 0.2)) - np.log(weighing.p(edit, labels[i]))
        assert {name: value[i].item() for name, value in got.items()} == pytest.approx(
            expected, abs=1e-9
        )
    assert 0.1 < got["area"].min() < 0.6


def test_in_place_and_cropped_agree_on_the_whole_image(weighing, scores_of, some):
    everything = torch.ones_like(some[2])
    one, other = (
        scores_of(metric, weighing, some[0], some[1], everything)
        for metric in (SaliencyScore(), saliency_score_in_place())
    )
    assert all(torch.allclose(one[name], other[name]) for name in one)


def test_in_place_needs_an_alternative():
    assert saliency_score_in_place(threshold=0.2).threshold == 0.2
    with pytest.raises(InputError, match="Alternative"):
        SaliencyScore(alternative=0.5)
