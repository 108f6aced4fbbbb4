import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.noise import Noise
from saliencykit.core.errors import InputError
from saliencykit.core.objective import run_trial
from saliencykit.core.output import probability
from saliencykit.testing import check_black_box
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly, iou
from tests.helpers import seeded


@pytest.mark.parametrize("num_classes", [2, 4, 6])
@pytest.mark.parametrize("size", [16, 4, 64, (9, 13)])
def test_examples_are_classified_correctly(num_classes, size):
    black_box = PlantedEvidence(num_classes=num_classes)
    images, labels = black_box.examples(24, generator=seeded(), size=size)
    assert images.shape == (24, 3, *((size, size) if isinstance(size, int) else size))
    assert images.min() >= 0
    assert images.max() <= 1
    assert labels.tolist() == [i % num_classes for i in range(24)]
    assert probability(black_box(images), labels, "softmax").min() > 0.98
    assert len(black_box.class_names) == len(set(black_box.class_names)) == num_classes


@pytest.mark.parametrize("side", [2, 4, 6])
def test_the_evidence_is_the_patch(side):
    black_box = PlantedEvidence(side=side)
    images, labels = black_box.examples(8, generator=seeded(), size=(12, 15))
    truth = black_box.evidence(images, labels)
    assert truth.sum((1, 2, 3)).tolist() == [side * side] * 8
    assert ((images - 0.5).abs() * (1 - truth)).max() < 0.25  # grain
    inside = ((images - 0.5).abs().amax(1, keepdim=True) > 0.39) | (truth == 0)
    assert inside.all()  # contrast


@pytest.mark.parametrize(
    "alternative",
    [
        Blur(),
        Blur(sigma=3.0),
        Noise(),
        Constant(),
        Constant(color="mean"),
        Constant(color=0.0),
        Constant(color=1.0),
    ],
)
def test_the_patch_is_necessary_and_sufficient(alternative):
    black_box = PlantedEvidence(num_classes=6)
    images, labels = black_box.examples(12, generator=seeded())
    trial = run_trial(
        black_box,
        images,
        labels,
        black_box.evidence(images, labels),
        alternative=alternative,
        generator=seeded(),
    )
    assert probability(trial.preserved, labels, "softmax").min() > 0.98
    assert probability(trial.destroyed, labels, "softmax").max() < 0.3


def test_two_patches_share_the_probability_and_each_label_has_its_own_evidence():
    black_box = PlantedEvidence()
    images, _ = black_box.examples(2, generator=seeded(), size=(16, 16))
    both = torch.cat([images[:1], images[1:]], dim=3)
    logits = black_box(both)
    assert (logits[0, 0] - logits[0, 1]).abs() < 0.1
    left, right = (black_box.evidence(both, torch.tensor([label])) for label in (0, 1))
    assert left[..., :16].sum() == 16
    assert right[..., 16:].sum() == 16


def test_it_is_a_black_box():
    for black_box in (
        PlantedEvidence(),
        PlantedEvidence(max_batch_size=2),
        QueryOnly(PlantedEvidence()),
        Counting(PlantedEvidence()),
    ):
        check_black_box(black_box, images=PlantedEvidence().examples(5, generator=seeded())[0])


def test_float64_and_gradients():
    black_box = PlantedEvidence()
    x = black_box.examples(1, generator=seeded(), size=5)[0].double().requires_grad_(True)
    assert black_box(x).dtype == torch.float64
    assert torch.autograd.gradcheck(black_box, x)


@pytest.mark.parametrize(
    "wrong", [{"num_classes": 1}, {"num_classes": 7}, {"side": 3}, {"side": 0}, {"sharpness": 0.0}]
)
def test_bad_numbers(wrong):
    with pytest.raises(InputError, match="PlantedEvidence"):
        PlantedEvidence(**wrong)


def test_bad_images():
    with pytest.raises(InputError, match="takes RGB images with sides >= 4"):
        PlantedEvidence()(torch.rand(1, 1, 16, 16))
    with pytest.raises(InputError, match="takes RGB images with sides >= 4"):
        PlantedEvidence()(torch.rand(1, 3, 3, 16))
    with pytest.raises(InputError, match="n must be >= 1 and the sides must be >= 4"):
        PlantedEvidence().examples(1, generator=seeded(), size=3)


def test_wrappers_have_the_attributes_of_the_black_box_inside():
    inner = PlantedEvidence(num_classes=3, max_batch_size=7)
    for black_box in (QueryOnly(inner), Counting(inner)):
        assert (
            black_box.num_classes,
            black_box.max_batch_size,
            black_box.device,
            black_box.baseline_color,
        ) == (3, 7, inner.device, None)
        assert black_box.class_names == inner.class_names
        assert type(black_box.without_preprocessing()) is type(black_box)
    assert Counting(inner).differentiable
    assert not QueryOnly(inner).differentiable


def test_optimized_copies_stay_wrapped():
    x = torch.rand(2, 3, 8, 8, generator=seeded())
    assert isinstance(QueryOnly(PlantedEvidence()).optimized_for(x), QueryOnly)
    black_box = Counting(PlantedEvidence())
    black_box.optimized_for(x)(x)
    assert black_box.batch_sizes == [2]
    assert (black_box.num_images, Counting(PlantedEvidence()).num_images) == (2, 0)


def test_query_only_logits_carry_no_gradient():
    x = torch.rand(2, 3, 8, 8, generator=seeded()).requires_grad_(True)
    assert not QueryOnly(PlantedEvidence()).logits(x).requires_grad


def test_iou():
    half = torch.tensor([[[[1.0, 0.0, 0.0, 0.2]]]])
    assert iou(half, torch.ones(1, 1, 1, 4)).item() == 0.25
    assert iou(half, half).item() == 1.0
    assert iou(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)).item() == 0.0
    assert iou(half, torch.ones(1, 1, 1, 4), threshold=0.1).item() == 0.5
