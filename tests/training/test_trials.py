import pytest
import torch
import torch.nn.functional as F

from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import compose
from saliencykit.core.map_placement import resize_maps
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.training.trials import feature_mixing_trial, pixel_trial
from tests.helpers import seeded

REAL = torch.tensor([True, True, True, False])


@pytest.fixture
def late(trunk_black_box):
    """A rest, mixing features of four images with two fills each, images, labels and a mask."""
    black_box = trunk_black_box()
    images, one, other = (
        F.interpolate(torch.rand(4, 3, 8, 8, generator=seeded(s)), size=(32, 32), mode="bilinear")
        for s in range(3)
    )
    partial_network = choose_split_layer(black_box, images)
    with torch.no_grad():
        mixing = torch.stack(
            [
                read_feature_maps(black_box, x, [partial_network.feature_map])[1][0]
                for x in (images, one, other)
            ],
            1,
        )
    mask = torch.rand(4, 1, 16, 16, generator=seeded(5)).requires_grad_()
    return partial_network, mixing, images, torch.tensor([0, 1, 2, 3]), mask


@pytest.mark.parametrize("fakes", ["area", "inverted"])
def test_late_trials_are_the_formula_row_by_row(late, fakes):
    partial_network, mixing, images, labels, mask = late
    trial = feature_mixing_trial(
        partial_network, mixing, images, labels, REAL, mask, fakes=fakes, generator=seeded()
    )
    first = torch.randint(2, (4,), generator=seeded())
    for row in range(4):
        coarse = F.interpolate(mask[row : row + 1], size=mixing.shape[3:], mode="area")
        kept, dropped = (
            (coarse, 1 - coarse) if REAL[row] or fakes == "area" else (1 - coarse, coarse)
        )
        fill = [
            mixing[row : row + 1, 1 + int(first[row])],
            mixing[row : row + 1, 2 - int(first[row])],
        ]
        x = mixing[row : row + 1, 0]
        preserved = partial_network(x * kept + fill[0] * (1 - kept), (3, 32, 32))[0]
        destroyed = partial_network(x * dropped + fill[1] * (1 - dropped), (3, 32, 32))[0]
        if not REAL[row] and fakes == "area":
            preserved = destroyed = torch.zeros(4)
        assert torch.allclose(trial.preserved[row], preserved, atol=1e-5)
        assert torch.allclose(trial.destroyed[row], destroyed, atol=1e-5)
    assert trial.mask is mask
    assert trial.real is REAL
    assert trial.labels is labels


def test_late_trials_query_nothing_about_fakes_and_have_gradients(late):
    partial_network, mixing, images, labels, mask = late
    trial = feature_mixing_trial(
        partial_network, mixing, images, labels, REAL, mask, fakes="area", generator=seeded()
    )
    grad = torch.autograd.grad((trial.preserved - trial.destroyed).square().sum(), mask)[0]
    assert bool((grad[:3].abs().sum((1, 2, 3)) > 0).all())
    assert not grad[3].any()


def test_the_fill_of_the_kept_photo_is_drawn(late):
    partial_network, mixing, images, labels, mask = late
    case = (partial_network, mixing, images, labels, torch.ones(4, dtype=torch.bool), mask)
    trials = [feature_mixing_trial(*case, fakes="area", generator=seeded(s)) for s in range(8)]
    answers = torch.stack([trial.preserved for trial in trials])
    apart = (answers[:, None] - answers[None]).abs().amax(3)  # (8, 8, rows): rounding, or more
    for row in range(4):
        assert len({tuple(alike) for alike in (apart[:, :, row] < 1e-5).tolist()}) == 2


@pytest.mark.parametrize("fakes", ["area", "inverted"])
def test_composed_trials_row_by_row(fakes):
    black_box, gray = PlantedEvidence(), Constant(color=0.5)
    images, labels = black_box.examples(4, generator=seeded())
    mask = torch.rand(4, 1, 8, 8, generator=seeded(1)).requires_grad_()
    trial = pixel_trial(
        black_box, images, labels, REAL, mask, alternative=gray, fakes=fakes, generator=seeded()
    )
    fill = torch.full_like(images, 0.5)
    for row in range(4):
        large = resize_maps(mask[row : row + 1], (16, 16))
        kept = large if REAL[row] or fakes == "area" else 1 - large
        one = slice(row, row + 1)
        preserved, destroyed = (
            black_box(compose(images[one], kept, fill[one]))[0],
            black_box(compose(images[one], 1 - kept, fill[one]))[0],
        )
        if not REAL[row] and fakes == "area":
            preserved = destroyed = torch.zeros(4)
        assert torch.allclose(trial.preserved[row], preserved, atol=1e-5)
        assert torch.allclose(trial.destroyed[row], destroyed, atol=1e-5)
    assert trial.mask is mask
    assert torch.autograd.grad(trial.preserved.sum(), mask)[0].abs().sum() > 0
