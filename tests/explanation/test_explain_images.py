"""explain(): any image, label and masker, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import saliencykit
from saliencykit import GradientError, InputError, RegistryError, TorchBlackBox, explain
from saliencykit.core.masker import Masker
from saliencykit.demo import demo_image
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly


def small_model(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def planted(count: int = 2) -> tuple[PlantedEvidence, torch.Tensor, torch.Tensor]:
    black_box = PlantedEvidence()
    return black_box, *black_box.examples(count, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "masker",
    [
        pytest.param("iterative:steps=40", marks=pytest.mark.slow),
        "rise:samples=400",
        "occlusion",
    ],
)
def test_the_planted_patch_is_found(masker: str) -> None:
    black_box, images, labels = planted(4)
    answer = explain(black_box, images, labels.tolist(), masker=masker)
    truth = black_box.evidence(images, labels)
    inside = (answer.mask * truth).sum((1, 2, 3)) / truth.sum((1, 2, 3))
    outside = (answer.mask * (1 - truth)).sum((1, 2, 3)) / (1 - truth).sum((1, 2, 3))
    assert (inside > 2 * outside).all()
    assert answer.kept is not None
    assert answer.dropped is not None
    assert (answer.kept > answer.dropped).all()


def test_a_tensor_needs_no_configuration_and_the_model_comes_back_untouched() -> None:
    model = small_model().train()
    model[0].requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.randn(2, 3, 12, 14) * 3
    state = torch.random.get_rng_state()
    with torch.no_grad():
        answer = explain(model, images, masker="iterative:steps=2,areas=(0.2,0.2)")
    assert answer.mask.shape == (2, 1, 12, 14)
    assert answer.provenance["inputs"] == "normalized"
    assert model.training
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_same_seed_gives_the_same_mask_alone_and_in_a_batch_beyond_one_chunk() -> None:
    model = small_model()
    images = torch.rand(19, 3, 9, 11, generator=torch.Generator().manual_seed(1))
    whole = explain(model, images, masker="rise:samples=32", seed=3)
    alone = explain(model, images[17], masker="rise:samples=32", seed=3)
    torch.testing.assert_close(whole.mask[17:18], alone.mask, atol=1e-5, rtol=0)
    other = explain(model, images[17], masker="rise:samples=32", seed=4)
    assert not torch.equal(other.mask, alone.mask)


def test_labels_by_index_name_none_and_one_for_all() -> None:
    names = ["cat, tabby cat", "dog", "Egret", "fox", "goat"]
    black_box = TorchBlackBox(small_model(), class_names=names)
    images = torch.rand(3, 3, 10, 10)
    masker = "whole-image"
    assert explain(black_box, images, "egret", masker=masker).labels.tolist() == [2, 2, 2]
    assert explain(black_box, images, [1, "tabby cat", None], masker=masker).labels.tolist()[
        :2
    ] == [1, 0]
    assert explain(black_box, images, torch.tensor([4, 3, 2]), masker=masker).labels.tolist() == [
        4,
        3,
        2,
    ]
    assert explain(black_box, images, np.int64(1), masker=masker).label_names == ("dog",) * 3
    top = black_box(images).argmax(1).tolist()
    assert explain(black_box, images, masker=masker).labels.tolist() == top


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (5, r"label 5 of image 0 is outside 0\.\.4"),
        (-1, r"outside 0\.\.4"),
        ("gaot", r"Did you mean 'goat'"),
        ("hen", r"Did you mean 'prairie hen'"),
        ([1, 2], r"2 labels for 3 images"),
        (1.5, r"the label of image 0, 1\.5 is not a class; expected an index"),
        (True, r"True is not a class.* Write 1 for yes"),
        (torch.tensor([2], device="meta"), r"without plain values .* on meta.*label=2"),
        (torch.tensor([0, 2]).to_sparse(), r"without plain values .*sparse"),
    ],
)
def test_a_wrong_label_is_named(label: object, words: str) -> None:
    black_box = TorchBlackBox(
        small_model(), class_names=["cat", "dog", "prairie hen", "fox", "goat"]
    )
    with pytest.raises(InputError, match=words):
        explain(black_box, torch.rand(3, 3, 10, 10), label, masker="whole-image")


def test_a_name_without_class_names_says_what_to_write() -> None:
    with pytest.raises(InputError, match="class_names="):
        explain(small_model(), torch.rand(3, 10, 10), "cat")


def test_a_image_without_statistics_shows_the_line_to_write() -> None:
    with pytest.raises(InputError, match=r"TorchBlackBox\(model, mean="):
        explain(small_model(), Image.new("RGB", (20, 20)))


def test_a_image_comes_back_in_its_own_coordinates() -> None:
    black_box = TorchBlackBox(small_model(), mean=(0.5,) * 3, std=(0.5,) * 3, size=16)
    answer = explain(black_box, Image.new("RGB", (40, 20), (200, 10, 30)), 1, masker="whole-image")
    assert answer.mask.shape == (1, 1, 16, 16)
    (placed,) = answer.to_source()
    assert placed.shape == (1, 1, 20, 40)
    assert placed[0, 0, :, 12:28].min() > 0.99
    # the sides that the center crop never showed to the model
    assert placed[0, 0, :, :9].max() == 0


def test_query_only_boxes_get_rise_and_refuse_gradients() -> None:
    black_box, images, labels = planted()
    answer = explain(QueryOnly(black_box), images, labels.tolist(), masker="rise:samples=16")
    assert "Rise" in answer.provenance["masker"]
    with pytest.raises(GradientError, match="rise"):
        explain(QueryOnly(black_box), images, labels.tolist(), masker="iterative")


def test_refining_takes_steps_from_the_mask_of_any_masker() -> None:
    given = ("demo", demo_image())
    for masker in (None, "universal"):  # the trained one, too, on the optimized copy
        plain, refined = (explain(*given, masker=masker, refine=n, verify=False) for n in (0, 3))
        assert "Iterative" in refined.provenance["masker"]
        pair = torch.stack([plain.mask.flatten(), refined.attributions.flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.3
    black_box = PlantedEvidence()
    images, labels = black_box.examples(1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(GradientError):
        explain(QueryOnly(black_box), images, labels, refine=3)
    with pytest.raises(InputError, match="steps"):
        explain(black_box, images, labels, refine=-1)


def test_without_check_nothing_is_kept_or_dropped() -> None:
    black_box, images, labels = planted()
    answer = explain(black_box, images, labels, masker="whole-image", verify=False)
    assert answer.kept is None
    assert answer.provenance["alternative"] is None


def test_names_that_nobody_knows_are_refused_with_advice() -> None:
    black_box, images, _ = planted()
    with pytest.raises(RegistryError, match="Did you mean 'rise'"):
        explain(black_box, images, masker="rize")
    with pytest.raises(RegistryError, match="Did you mean 'blur'"):
        explain(black_box, images, masker="whole-image", alternative="blurr")
    with pytest.raises(InputError, match="not a classifier"):
        explain(3, images)
    with pytest.raises(InputError, match="seed"):
        explain(black_box, images, seed=-1)


def test_a_model_that_raises_or_returns_nan_is_one_clear_line() -> None:
    class Raises(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    class SometimesNan(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = x.mean((2, 3))
            return torch.where(out > 0.9, out * float("nan"), out)

    with pytest.raises(
        InputError, match=r"raised RuntimeError on images of shape \(1, 3, 8, 8\).*mat1"
    ):
        explain(Raises(), torch.rand(3, 8, 8))
    images = torch.rand(3, 3, 8, 8) * 0.5
    images[1] = 1.0
    with pytest.raises(saliencykit.ContractError, match=r"^image 1: .*row 0"):
        explain(SometimesNan(), images, masker="rise:samples=8")


def test_one_bad_row_of_a_batch_is_named() -> None:
    images = torch.rand(3, 3, 8, 8)
    images[2, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"image 2"):
        explain(small_model(), images)


FAST = "iterative:steps=3,areas=(0.2,0.2)"


@pytest.mark.parametrize("masker", [FAST, pytest.param("iterative", marks=pytest.mark.slow)])
def test_an_optimized_mask_of_a_real_network_is_the_same_alone_and_in_a_batch(masker):
    from skimage.data import astronaut, coffee

    both = [Image.fromarray(astronaut()), Image.fromarray(coffee())]
    batch = explain("demo", both, masker=masker, verify=False)
    alone = explain("demo", both[1], masker=masker, verify=False)
    torch.testing.assert_close(batch.mask[1:], alone.mask, atol=1e-5, rtol=0)


class FailsOnBright(Masker):
    def mask(self, black_box, images, labels, generator):
        if images.mean((1, 2, 3)).max() > 0.9:
            raise InputError("too bright")
        return images.new_full((len(images), 1, *images.shape[2:]), 0.5)


def test_the_image_that_fails_is_named(black_box):
    images = [torch.zeros(3, 16, 16), torch.ones(3, 16, 16), torch.zeros(3, 16, 16)]
    with pytest.raises(InputError, match=r"^image 1: too bright$"):
        explain(black_box, images, masker=FailsOnBright())
    with pytest.raises(InputError, match=r"^too bright$"):
        explain(black_box, images[1], masker=FailsOnBright())


class SmallMemory(Masker):
    def mask(self, black_box, images, labels, generator):
        if len(images) > 1:
            raise MemoryError
        return images.new_full((1, 1, *images.shape[2:]), 0.5)


def test_where_the_memory_is_too_small_for_all_images_each_is_explained_alone(black_box):
    assert len(explain(black_box, torch.rand(3, 3, 16, 16), masker=SmallMemory())) == 3
