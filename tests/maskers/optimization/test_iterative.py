from dataclasses import dataclass

import pytest
import torch
from torch import nn

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.crop import Crop
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.maskers.baselines import CenterBox
from saliencykit.maskers.cam.cam import Cam
from saliencykit.maskers.optimization.iterative import (
    Iterative,
    _penalizes_area,
    _shifted,
    evidence_grid,
)
from saliencykit.maskers.optimization.mask_choice import Batch
from saliencykit.maskers.optimization.meaningful_perturbation import meaningful_perturbation
from saliencykit.registry.coerce import as_masker
from saliencykit.terms.presets import PRESETS, paper_mean
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly
from tests.helpers import seeded


def small_network(channels=3, classes=5):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, classes),
        )


@pytest.mark.parametrize(
    "text",
    [
        "iterative",
        pytest.param("iterative:objective=paper-mean", marks=pytest.mark.slow),
        pytest.param("meaningful-perturbation:steps=100", marks=pytest.mark.slow),
    ],
)
def test_finds_planted_evidence(text):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(4, generator=seeded())
    evidence = black_box.evidence(images, labels)
    output = as_masker(text).attribute(black_box, images, labels, generator=seeded())
    on = (output.mask * evidence).sum((1, 2, 3)) / evidence.sum((1, 2, 3))
    off = (output.mask * (1 - evidence)).sum((1, 2, 3)) / (1 - evidence).sum((1, 2, 3))
    assert bool((on > 0.7).all())
    assert bool((off < 0.15).all())


def test_the_mask_is_for_the_given_label():
    black_box = PlantedEvidence()
    one, labels = black_box.examples(4, generator=seeded(), size=(8, 8))
    images = torch.cat([one[:1], one[1:2]], dim=3)
    maps = [
        Iterative()(black_box, images, labels[i : i + 1], generator=seeded())[0, 0] for i in (0, 1)
    ]
    assert maps[0][:, :8].sum() > 3 * maps[0][:, 8:].sum()
    assert maps[1][:, 8:].sum() > 3 * maps[1][:, :8].sum()


def test_the_mask_follows_the_ranking_in_the_attributions():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded())
    output = Iterative(steps=20).attribute(black_box, images, labels, generator=seeded())
    for mask, scores in zip(output.mask.flatten(1), output.attributions.flatten(1), strict=True):
        order = scores.argsort()
        assert bool((mask[order].diff() >= -1e-6).all())


@pytest.mark.parametrize(
    "masker",
    [
        Iterative(steps=3),
        Iterative(steps=2, fills_per_step=2, jitter=0.1, batch_size=2),
        Iterative(objective=paper_mean(), steps=3, batch_size=3),
    ],
)
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
def test_the_mask_of_an_image_does_not_depend_on_its_batch(masker, dtype):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(3, generator=seeded())
    images = images.to(dtype)
    batch = masker(black_box, images, labels, generator=seeded(3))
    alone = torch.cat(
        [
            masker(black_box, images[i : i + 1], labels[i : i + 1], generator=seeded(3))
            for i in range(3)
        ]
    )
    assert (batch - alone).abs().max() < 1e-5


def test_batch_size_changes_nothing_but_rounding():
    images, labels = PlantedEvidence().examples(5, generator=seeded())
    masks = [
        Iterative(steps=3, batch_size=n)(PlantedEvidence(), images, labels, generator=seeded(3))
        for n in (5, 2, None)
    ]
    assert (masks[0] - masks[1]).abs().max() < 1e-5
    assert (masks[0] - masks[2]).abs().max() < 1e-5


def test_another_seed_gives_another_mask():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(1, generator=seeded())
    masks = [Iterative(steps=5)(black_box, images, labels, generator=seeded(n)) for n in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_a_finished_image_leaves_the_batch_and_keeps_its_mask():
    black_box, masker = PlantedEvidence(), Iterative(steps=60, patience=5, batch_size=2)
    images, labels = black_box.examples(2, generator=seeded())
    images[1] = 0.5  # no evidence: finished at the first check
    counting = Counting(black_box)
    mask = masker(counting, images, labels, generator=seeded())
    empty = masker(black_box, images[1:], labels[1:], generator=seeded())
    assert (mask[1:] - empty).abs().max() < 1e-5
    assert counting.num_images < 400  # 546 if it stayed: two descents of 60 steps


def test_without_tolerance_all_steps_run():
    black_box = Counting(PlantedEvidence())
    images, labels = PlantedEvidence().examples(1, generator=seeded())
    Iterative(steps=30, tolerance=0.0)(black_box, images, labels, generator=seeded())
    assert black_box.num_images == 30 * 2 + 8 * 2 + 1


@pytest.mark.parametrize(("channels", "size"), [(3, (4, 4)), (1, (5, 7)), (1, (1, 1))])
def test_tiny_images_work(size, channels):
    black_box = TorchBlackBox(small_network(channels))
    images = torch.rand(2, channels, *size, generator=seeded())
    black_box(images)
    mask = Iterative(steps=2)(black_box, images, torch.tensor([0, 4]), generator=seeded())
    assert mask.shape == (2, 1, *size)


def test_two_classes_normalized_inputs_and_other_dtypes_work():
    images = torch.randn(2, 3, 12, 12, generator=seeded()) * 3
    labels = torch.tensor([0, 1])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        black_box = TorchBlackBox(small_network(classes=2).to(dtype))
        black_box(images.to(dtype))
        mask = Iterative(steps=2)(black_box, images.to(dtype), labels, generator=seeded())
        assert mask.dtype == dtype
        assert bool(torch.isfinite(mask).all())


@pytest.mark.parametrize(
    "text", ["iterative:steps=1", *(f"iterative:steps=1,objective={name}" for name in PRESETS)]
)
def test_every_objective_works_by_name(text):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded())
    assert (
        as_masker(text)(black_box, images, labels, generator=seeded()).shape == images[:, :1].shape
    )


def test_works_inside_no_grad_and_leaves_the_model_untouched():
    net = small_network().train()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images, labels = torch.rand(2, 3, 12, 12, generator=seeded()), torch.tensor([0, 1])
    state = torch.random.get_rng_state()
    black_box = TorchBlackBox(net)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            black_box(images)
            Iterative(steps=1)(black_box, images.clone(), labels.clone(), generator=seeded())
    assert torch.equal(state, torch.random.get_rng_state())
    assert net.training
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@dataclass
class NanLogits(BlackBox):
    """NaN logits for images with a bright corner."""

    num_classes = 3
    differentiable = True

    def logits(self, images):
        logits = images.mean((2, 3)) * 1.0
        return torch.where(images[:, :1, 0, 0] > 50, torch.nan, logits)


@pytest.mark.parametrize("batch_size", [None, 3, 4])
def test_nan_logits_name_the_image(batch_size):
    images, labels = torch.rand(4, 3, 8, 8, generator=seeded()), torch.zeros(4, dtype=torch.long)
    images[2] = 90.0
    masker = Iterative(steps=3, batch_size=batch_size)
    with pytest.raises(ContractError, match="image row 2 of 4"):
        masker(NanLogits(), images, labels, generator=seeded())


def test_a_query_only_black_box_is_refused():
    images, labels = PlantedEvidence().examples(1, generator=seeded())
    with pytest.raises(GradientError, match="rise"):
        Iterative()(QueryOnly(PlantedEvidence()), images, labels, generator=seeded())


def test_an_alternative_without_gradient_is_refused():
    images, labels = PlantedEvidence().examples(1, generator=seeded())
    with pytest.raises(GradientError, match="Crop"):
        Iterative(alternative=Crop())(PlantedEvidence(), images, labels, generator=seeded())


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"grid_size": 0},
        {"fills_per_step": 0},
        {"patience": 0},
        {"lr": 0.0},
        {"edge_width": -1.0},
        {"areas": (0.0, 0.5)},
        {"areas": (0.5, 0.2)},
        {"areas": (0.5, 1.0)},
        {"jitter": 0.5},
        {"tolerance": -0.1},
        {"batch_size": 0},
        {"objective": "paper-mean"},
        {"alternative": "blur"},
        {"start": "cam"},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        Iterative(**arguments)


def test_a_ranking_starts_from_the_map_of_any_masker():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(3, generator=seeded())
    batch = Batch(black_box, images, labels, black_box.output)
    grid = evidence_grid(CenterBox(), batch, images.new_zeros(3, 1, 4, 4))
    assert grid[0, 0, 1, 1] > 0 > grid[0, 0, 0, 0]
    assert torch.allclose(grid.square().mean((1, 2, 3)), torch.ones(3), atol=1e-4)
    assert evidence_grid(Cam(), batch, images.new_zeros(3, 1, 4, 4)).eq(0).all()  # it has no layers


def test_all_objectives_but_keep_and_drop_penalize_area():
    penalized = {name: _penalizes_area(make()) for name, make in PRESETS.items()}
    assert penalized == {name: name != "keep-and-drop" for name in PRESETS}


def test_shifting_replicates_edges():
    maps = torch.rand(2, 3, 5, 6, generator=seeded())
    moved = _shifted(maps, 1, -2)
    for y in range(5):
        for x in range(6):
            assert torch.equal(
                moved[:, :, y, x], maps[:, :, min(max(y - 1, 0), 4), min(max(x + 2, 0), 5)]
            )
    assert torch.equal(_shifted(maps, 0, 0), maps)


def test_meaningful_perturbation_is_the_published_setting():
    masker = meaningful_perturbation()
    assert (masker.steps, masker.grid_size, masker.lr, masker.alternative) == (300, 28, 0.1, Blur())
    assert as_masker("meaningful-perturbation:steps=50").steps == 50
    assert Iterative(alternative=Constant()).alternative == Constant()
