from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from saliencykit.alternatives.blur import Blur, gaussian_blur
from saliencykit.alternatives.blur_pyramid import BlurPyramid
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.output import probability
from saliencykit.maskers.optimization import extremal_perturbation
from saliencykit.maskers.optimization.extremal_perturbation import (
    ExtremalPerturbation,
    area_penalty,
)
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly
from saliencykit.testing.unchanged import untouched

AREAS = (0.1, 0.3)


@pytest.fixture
def masker():
    """Fits the planted patches: blurs are narrower than they are, discs not wider."""
    return ExtremalPerturbation(
        areas=AREAS, steps=60, grid_size=16, width=0.2, alternative=BlurPyramid(sigma=0.2)
    )


def slow_penalty(mask, area):
    """Compares the sorted values with those of a binary mask of that area."""
    values = sorted(mask.flatten().tolist())
    zeros = round((1 - area) * len(values))
    return sum(
        (value - (0 if rank < zeros else 1)) ** 2 for rank, value in enumerate(values)
    ) / len(values)


@pytest.mark.parametrize("area", [0.1, 0.25, 0.5, 0.9])
def test_the_area_penalty_equals_the_formula(area):
    masks = torch.rand(3, 1, 6, 8, generator=Generator().manual_seed(0), dtype=torch.float64)
    wanted = extremal_perturbation._sorted_masks((area,), 48, masks).expand(3, -1)
    assert np.allclose(
        area_penalty(masks, wanted).numpy(), [slow_penalty(mask, area) for mask in masks]
    )


def test_the_area_penalty_is_zero_only_for_binary_masks_of_that_area_and_its_gradient_is_correct():
    wanted = extremal_perturbation._sorted_masks((0.25,), 48, torch.zeros(1, dtype=torch.float64))
    best = (torch.arange(48) < 12).double().view(1, 1, 6, 8)
    assert area_penalty(best, wanted) == 0
    assert area_penalty(best.flip(2), wanted) == 0
    assert area_penalty(best * 0.9, wanted) > 0
    assert area_penalty((torch.arange(48) < 13).double().view(1, 1, 6, 8), wanted) > 0
    masks = torch.rand(
        2, 1, 6, 8, generator=Generator().manual_seed(1), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda m: area_penalty(m, wanted.expand(2, -1)), masks)


def test_finds_planted_evidence_with_masks_of_the_given_areas(masker, black_box, examples):
    images, labels = examples
    masks, truth = masker.per_area(black_box, images, labels), black_box.evidence(images, labels)
    assert masks.shape == (4, 2, 1, 16, 16)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert torch.allclose(masks.mean((2, 3, 4)), torch.tensor(AREAS).expand(4, -1), atol=0.05)
    inside = (masks[:, 1] * truth).sum((1, 2, 3)) / truth.sum((1, 2, 3))
    # of the patch, a sixteenth of the image, is kept by the mask of 0.3
    assert inside.min() > 0.7
    lost = probability(black_box(gaussian_blur(images, 3.2)), labels, "softmax")
    kept = probability(
        black_box(BlurPyramid(sigma=0.2).edit(images, masks[:, 1], Generator())), labels, "softmax"
    )
    assert (kept > 0.8).all()
    assert (lost < 0.5).all()


def test_the_mask_is_the_mean_over_areas_and_the_attributions_are_the_same_smoothed(
    masker, black_box, examples
):
    images, labels = examples
    few, truth = replace(masker, steps=3), black_box.evidence(images, labels)
    masks = few.per_area(black_box, images, labels)
    output = few.attribute(black_box, images, labels, generator=Generator())
    assert torch.allclose(output.mask, masks.mean(1))
    assert torch.allclose(output.attributions, gaussian_blur(output.mask, 0.09 * 16), atol=1e-6)
    scores = (
        replace(masker, areas=(0.3,))
        .attribute(black_box, images, labels, generator=Generator())
        .attributions
    )
    # the patch is as wide as the scores are smooth
    nearby = F.max_pool2d(truth, 5, stride=1, padding=2)
    assert (scores.flatten(1).argmax(1) == (scores * nearby).flatten(1).argmax(1)).all()
    rough = ExtremalPerturbation(areas=(0.2,), steps=2, smoothing=0).attribute(
        black_box, images, labels, generator=Generator()
    )
    assert torch.equal(rough.attributions, rough.mask)


@pytest.mark.parametrize("variant", ["dual", pytest.param("delete", marks=pytest.mark.slow)])
def test_deleting_and_dual_masks_find_the_evidence_too(variant, black_box, examples):
    images, labels = examples
    blurs = BlurPyramid(sigma=0.2)
    masker = ExtremalPerturbation(
        areas=(0.3,), steps=40, grid_size=16, width=0.2, variant=variant, alternative=blurs
    )
    mask = masker.per_area(black_box, images, labels)[:, 0]
    dropped = probability(black_box(blurs.edit(images, 1 - mask, Generator())), labels, "softmax")
    assert (dropped < 0.5).all()
    assert mask.mean() < 0.4


def test_a_step_takes_one_query_per_area_and_two_for_dual(black_box, examples):
    for variant, each in (("preserve", 1), ("delete", 1), ("dual", 2)):
        counting = Counting(black_box)
        ExtremalPerturbation(areas=AREAS, steps=3, variant=variant)(
            counting, *examples, generator=Generator()
        )
        assert counting.num_images == 4 * 2 * 3 * each


@pytest.mark.parametrize("batch_size", [None, 3])
def test_the_mask_of_an_image_does_not_depend_on_its_batch(batch_size, black_box, examples):
    images, labels = examples
    masker = ExtremalPerturbation(areas=AREAS, steps=8, batch_size=batch_size)
    whole = masker.per_area(black_box, images, labels)
    alone = torch.cat(
        [masker.per_area(black_box, images[i : i + 1], labels[i : i + 1]) for i in range(4)]
    )
    assert torch.allclose(whole, alone, atol=1e-5)


def test_other_sizes_and_float64_work(black_box):
    for size in ((9, 22), (40, 8)):
        images, labels = black_box.examples(2, generator=Generator().manual_seed(0), size=size)
        masks = ExtremalPerturbation(areas=AREAS, steps=2).per_area(
            black_box, images.double(), labels
        )
        assert masks.shape == (2, 2, 1, *size)
        assert masks.dtype == torch.float64


def test_a_model_in_training_mode_is_left_untouched_and_queried_in_eval_mode():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(1176, 3),
    )
    net[0].weight.requires_grad_(False)
    images, labels = (
        torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(0)),
        torch.tensor([0, 2]),
    )
    masker = ExtremalPerturbation(areas=AREAS, steps=3)
    with untouched("extremal", net, images=images, labels=labels):
        first = masker(TorchBlackBox(net, size=16), images, labels, generator=Generator())
    assert torch.equal(
        first, masker(TorchBlackBox(net.eval(), size=16), images, labels, generator=Generator())
    )


class Broken(BlackBox):
    """Claims to be differentiable, and is not."""

    num_classes, differentiable = 4, True

    def __init__(self, broken):
        self.broken = broken

    def logits(self, images):
        output = PlantedEvidence().logits(images)
        return output.detach() if self.broken == "cut" else output + (images.sum() * 0).sqrt()


def test_black_boxes_without_a_usable_gradient_are_refused(examples, black_box):
    masker = ExtremalPerturbation(steps=2)
    counting = Counting(QueryOnly(black_box))
    with pytest.raises(GradientError, match="rise"):
        masker(counting, *examples, generator=Generator())
    assert not counting.num_images
    with pytest.raises(GradientError, match="no gradient reached the mask"):
        masker(Broken("cut"), *examples, generator=Generator())
    with pytest.raises(ContractError, match="image row 0"):
        masker(Broken("nan"), *examples, generator=Generator())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"areas": ()}, "areas="),
        ({"areas": 1.1}, r"such as \(0.1,\)"),
        ({"areas": (0.1, 1.0)}, "areas="),
        ({"steps": 0}, "steps=0"),
        ({"grid_size": 1.5}, "grid_size=1.5"),
        ({"variant": "keep"}, "takes .preserve. or .delete. or .dual."),
        ({"width": 0}, "width=0"),
        ({"smoothing": 1.0}, "smoothing=1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"alternative": Blur()}, "takes BlurPyramid"),
    ],
)
def test_bad_arguments_are_refused_at_once(wrong, says):
    with pytest.raises(InputError, match=says):
        ExtremalPerturbation(**wrong)


def test_a_text_may_give_one_area_as_a_number(black_box, examples):
    from saliencykit.registry.coerce import as_masker

    images, labels = examples
    one = as_masker("extremal-perturbation:areas=0.2,steps=2")(
        black_box, images[:1], labels[:1], generator=torch.Generator()
    )
    same = ExtremalPerturbation(areas=(0.2,), steps=2)(
        black_box, images[:1], labels[:1], generator=torch.Generator()
    )
    assert torch.equal(one, same)


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_a_mirrored_image_gets_the_mirrored_mask(variant):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 400, 3),
        )
    images = torch.rand(3, 3, 20, 20, generator=Generator().manual_seed(1))
    masker = ExtremalPerturbation(areas=(0.1, 0.3), steps=9, grid_size=10, variant=variant)
    labels, black_box = torch.tensor([0, 1, 2]), TorchBlackBox(net.eval(), size=20)
    masks, mirrored = (
        masker(black_box, each, labels, generator=Generator()) for each in (images, images.flip(3))
    )
    assert torch.allclose(mirrored.flip(3), masks, rtol=0, atol=1e-5)
    assert masks.std() > 0.05
