import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.blur_pyramid import BlurPyramid
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.noise import Noise
from saliencykit.core.alternative import compose
from saliencykit.core.errors import InputError
from saliencykit.metrics.perturbed_queries import (
    check_fractions,
    make_perturber,
    probabilities,
    query_batched,
)
from saliencykit.testing.black_boxes import Counting, PlantedEvidence


def generator():
    return torch.Generator().manual_seed(0)


def test_all_perturbations_share_one_draw(some, weighing):
    images, _, maps = some
    edit = make_perturber(weighing, images, Noise(), generator())
    fill = Noise()(images, generator=generator())
    assert torch.equal(edit(maps), compose(images, maps, fill))
    assert torch.equal(edit(maps >= 0.5), compose(images, (maps >= 0.5).double(), fill))


def test_alternatives_know_the_black_box(some, weighing):
    edit = make_perturber(weighing, some[0], Constant(color="zero"), generator())
    colors = edit(torch.zeros_like(some[2]))[0, :, 0, 0]
    assert colors.tolist() == pytest.approx(weighing.baseline_color)


def test_an_alternative_with_its_own_edit_computes_each_perturbation(some, weighing):
    images, _, maps = some
    edit = make_perturber(weighing, images, BlurPyramid(), generator())
    assert torch.allclose(edit(maps), BlurPyramid().edit(images, maps, generator()))
    assert torch.equal(edit(maps), edit(maps))


@pytest.mark.parametrize(
    ("max_batch", "batch_sizes"), [(None, [28]), (8, [8, 8, 8, 4]), (4, [4] * 7), (3, [3, 1] * 7)]
)
def test_small_batches_are_joined(max_batch, batch_sizes, some, weighing):
    images, labels, _ = some
    edits = [images * factor for factor in torch.linspace(0, 1, 7)]
    weighing.max_batch_size = max_batch
    found = query_batched(weighing, iter(edits))
    assert weighing.batch_sizes == batch_sizes
    assert torch.allclose(found, torch.stack([weighing(edit) for edit in edits]))
    wanted = torch.stack([weighing(edit).softmax(1)[torch.arange(4), labels] for edit in edits])
    assert torch.allclose(probabilities(weighing, labels, edits, "softmax"), wanted)


def test_each_perturbation_is_queried_once():
    black_box = Counting(PlantedEvidence())
    images, labels = black_box.black_box.examples(3, generator=generator())
    probabilities(black_box, labels, [images] * 5, "softmax")
    assert black_box.num_images == 15


def test_wrong_arguments_are_refused():
    for wrong in (
        (),
        (0.0, 0.5),
        (0.5, 1.0),
        (0.5, 0.4),
        (0.2, 0.2),
        (float("nan"),),
        0.1,
        "0.1;0.2",
        ("0.1",),
    ):
        with pytest.raises(InputError, match="areas="):
            check_fractions("x", "areas", wrong)


@pytest.mark.parametrize("alternative", [Blur(sigma=2.0), Noise(), Constant(color="mean")])
def test_a_cached_fill_equals_a_new_one(alternative, some, weighing):
    images, mask = some[0].clone(), some[2] >= 0.5

    def perturbed(images):
        g = generator()
        return make_perturber(weighing, images, alternative, g)(mask), torch.rand(1, generator=g)

    first, again, fresh = perturbed(images), perturbed(images), perturbed(images.clone())
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[0], fresh[0])
    assert first[1] == again[1] == fresh[1]
    images *= 0.5
    assert torch.equal(perturbed(images)[0], perturbed(images.clone())[0])
