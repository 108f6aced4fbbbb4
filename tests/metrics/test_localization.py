import numpy as np
import pytest
import torch
import torchvision

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.metrics.localization import Localization, choose_threshold
from saliencykit.testing.black_boxes import Counting, PlantedEvidence

TRUTH = (
    torch.tensor([[2.0, 3.0, 9.0, 10.0]]),
    torch.tensor([[0.0, 0.0, 5.5, 7.25], [8.0, 8.0, 16.0, 15.0]]),
    torch.zeros(0, 4),
    torch.tensor([[0.0, 0.0, 16.0, 16.0]]),
)


def sample_and_masks(seed=0):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(seed))
    noise = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return Sample(images, labels, TRUTH), torch.nn.functional.interpolate(
        noise, size=(16, 16), mode="bilinear"
    )


def score(metric, sample, mask, black_box=None):
    return metric(
        black_box or PlantedEvidence(),
        sample,
        mask,
        explain=lambda images, labels: mask,
        generator=torch.Generator(),
    )


def overlap(one, other):
    """By areas, with plain numbers."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return width * height / (areas[0] + areas[1] - width * height)


def slow(mask, truth, threshold, least):
    """For the rule `range` and the box of all pixels: error and overlap."""
    low, high = mask.min(), mask.max()
    ys, xs = np.nonzero(mask >= low + np.float32(threshold) * (high - low))
    black_box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    best = max(overlap(black_box, other) for other in truth)
    return float(best < least), best


@pytest.mark.parametrize("least", [0.3, 0.5])
def test_it_equals_a_slow_reference(least):
    for seed in range(4):
        sample, mask = sample_and_masks(seed)
        metric = Localization(threshold=0.6, overlap=least, thresholds=(0.2, 0.9))
        got = score(metric, sample, mask)
        assert list(got) == ["error", "overlap", "error@0.2", "error@0.9"]
        for i, truth in enumerate(TRUTH):
            if not len(truth):
                assert all(got[name][i].isnan() for name in got)
                continue
            for name, level in (("error", 0.6), ("error@0.2", 0.2), ("error@0.9", 0.9)):
                assert got[name][i] == slow(mask[i, 0].numpy(), truth.numpy(), level, least)[0]
            assert got["overlap"][i].item() == pytest.approx(
                slow(mask[i, 0].numpy(), truth.numpy(), 0.6, least)[1], abs=1e-6
            )


def test_it_equals_torchvision_on_twelve_random_images():
    """Twelve masks that are rectangles, one of them twice: their overlap is torchvision's, whatever
    the rule and the bounding box.
    """
    g = torch.Generator().manual_seed(3)
    corners = torch.randint(0, 20, (12, 2, 2), generator=g)
    drawn = torch.cat([corners.amin(1), corners.amax(1) + 5], 1)
    truth = (drawn + torch.randint(-4, 5, drawn.shape, generator=g)).clamp(0, 28).float()
    mask = torch.zeros(12, 1, 28, 28)
    for i, (x0, y0, x1, y1) in enumerate(drawn.tolist()):
        mask[i, :, y0:y1, x0:x1] = 0.7
    sample = Sample(
        torch.rand(12, 3, 28, 28), torch.zeros(12, dtype=torch.int64), tuple(truth[:, None])
    )
    wanted = torchvision.ops.box_iou(drawn.float(), truth).diagonal()
    for rule, level in (("range", 0.5), ("value", 0.5), ("energy", 0.9), ("mean", 1.0)):
        for components in ("all", "largest"):
            got = score(
                Localization(rule=rule, threshold=level, components=components), sample, mask
            )
            assert torch.allclose(got["overlap"], wanted, atol=1e-6)
            assert torch.equal(got["error"], (wanted < 0.5).float())


def test_the_largest_component_ignores_a_speck():
    sample, _ = sample_and_masks()
    mask = torch.zeros(4, 1, 16, 16)
    mask[..., 3:10, 2:9] = 1
    mask[..., 15, 15] = 1
    assert score(Localization(components="largest"), sample, mask)["overlap"][0] == 1
    assert score(Localization(), sample, mask)["error"][0] == 1


def test_without_boxes_scores_are_nan_and_the_classifier_is_not_queried():
    sample, mask = sample_and_masks()
    black_box = Counting(PlantedEvidence())
    got = score(
        Localization(thresholds=(0.1,)), Sample(sample.images, sample.labels), mask, black_box
    )
    assert list(got) == ["error", "error@0.1", "overlap"]
    assert all(value.isnan().all() for value in got.values())
    score(Localization(), sample, mask, black_box)
    assert black_box.num_images == 0


def test_the_threshold_with_the_lowest_mean_error_is_chosen():
    rows = [
        {
            "localization/error@0.2": 1.0,
            "localization/error@0.4": 0.0,
            "localization/error@0.6": 0.0,
            "x": 3.0,
        },
        {
            "localization/error@0.2": None,
            "localization/error@0.4": 0.0,
            "localization/error@0.6": 0.0,
            "y@0.1": -9.0,
        },
        {
            "localization/error@0.2": 1.0,
            "localization/error@0.4": float("nan"),
            "localization/error@0.6": 1.0,
        },
    ]
    choice = choose_threshold(rows)
    assert (choice.threshold, choice.mean, choice.rows) == (0.4, 0.0, 2)
    tied = [{f"a@{t}": 0.5 for t in (0.9, 0.1, 0.2, 0.3, 0.5)}]
    assert choose_threshold(tied, column="a").threshold == 0.3
    for nothing in ([], [{"localization/error": 1.0}], [{"localization/error@0.5": None}]):
        with pytest.raises(InputError, match="choose_threshold"):
            choose_threshold(nothing)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5},
        {"rule": "x"},
        {"components": "x"},
        {"overlap": 0},
        {"thresholds": (0.1, -1.0)},
    ],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(InputError, match="Localization"):
        Localization(**wrong)
