"""Excitation backprop: the layer that is read, what the map is, the contrast, and what is refused."""

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.gradient.excitation_backprop import (
    ExcitationBackprop,
    contrastive_excitation_backprop,
)
from saliencykit.testing.black_boxes import QueryOnly
from saliencykit.testing.unchanged import untouched


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )


IMAGES, LABELS = (
    torch.rand(3, 3, 32, 40, generator=Generator().manual_seed(0)),
    torch.tensor([0, 3, 3]),
)


def found(masker, model, images=IMAGES, labels=LABELS, **black_box):
    return masker.attribute(
        TorchBlackBox(model, size=images.shape[2:], **black_box),
        images,
        labels,
        generator=Generator(),
    )


def raw(masker, model, images=IMAGES, labels=LABELS):
    """The scores at the layer's own size."""
    black_box = TorchBlackBox(model, size=tuple(images.shape[2:]))
    with torch.enable_grad():
        return masker.mask(black_box, images, labels, Generator()).attributions


def test_the_map_is_a_distribution_over_the_layer_and_the_contrast_a_difference_of_two():
    plain, contrast = (
        raw(ExcitationBackprop(), net()),
        raw(contrastive_excitation_backprop(), net()),
    )
    # of 32 x 40: the layer nearest to 14 a side
    assert plain.shape == contrast.shape == (3, 1, 16, 20)
    assert plain.min() >= 0
    assert torch.allclose(plain.sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    assert torch.allclose(contrast.sum((1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert contrast.min() < 0 < contrast.max()
    assert raw(ExcitationBackprop(layer="4"), net()).shape == (3, 1, 8, 10)


def test_at_the_last_layer_it_is_the_published_formula():
    """Pooling and a linear layer: P at a cell of channel k is `w_k+ a_k(cell) / sum of the same
    over channels and cells`.
    """
    model, images = net().eval().double(), IMAGES.double()  # shares are quotients of sums
    with torch.no_grad():
        maps = model[:5](images)
    weight = model[7].weight.detach()[LABELS][:, :, None, None]
    own, dual = ((sign * weight).clamp_min(0) * maps for sign in (1, -1))
    own, dual = (
        part.sum(1, keepdim=True) / part.sum((1, 2, 3), keepdim=True) for part in (own, dual)
    )
    found = raw(ExcitationBackprop(layer="4"), model, images)
    difference = raw(contrastive_excitation_backprop(layer="4"), model, images)
    assert torch.allclose(found, own, rtol=0, atol=1e-12)
    assert torch.allclose(difference, own - dual, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masker", [ExcitationBackprop(), contrastive_excitation_backprop()])
def test_the_mask_is_the_positive_part_over_its_maximum_and_depends_on_the_label(masker):
    with torch.enable_grad():
        answer = masker.mask(TorchBlackBox(net(), size=(32, 40)), IMAGES, LABELS, Generator())
    assert torch.allclose(
        answer.mask,
        answer.attributions.clamp_min(0) / answer.attributions.amax((1, 2, 3), keepdim=True),
    )
    other = raw(masker, net(), labels=torch.tensor([1, 2, 0]))
    assert (answer.attributions - other).abs().amax((1, 2, 3)).min() > 1e-4


def test_chunks_rows_and_modes_make_no_difference_and_the_model_stays():
    model = net().train()
    with untouched("excitation", model, images=IMAGES):
        whole = found(ExcitationBackprop(), model).attributions
    for limit in (1, 2):
        assert torch.allclose(
            found(ExcitationBackprop(), model, max_batch_size=limit).attributions, whole, atol=1e-7
        )
    assert torch.allclose(
        found(ExcitationBackprop(), model, IMAGES[1:2], LABELS[1:2]).attributions,
        whole[1:2],
        atol=1e-7,
    )
    assert found(ExcitationBackprop(), model, IMAGES.double()).attributions.dtype == torch.float64


def test_a_model_that_cannot_be_copied_is_borrowed():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net().eval()

        def forward(self, x):
            return self.net(x)

        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    model = Stubborn()
    with untouched("excitation", model, images=IMAGES):
        answer = raw(ExcitationBackprop(layer="net.1"), model)
    assert torch.allclose(answer.sum((1, 2, 3)), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_a_softmax_or_half_precision_do_not_matter(outputs):
    model = (
        nn.Sequential(*net().eval(), nn.Softmax(1))
        if outputs == "probabilities"
        else net().eval().bfloat16()
    )
    answer = found(ExcitationBackprop(), model, outputs=outputs).attributions
    wanted = found(ExcitationBackprop(), net().eval()).attributions
    assert torch.corrcoef(torch.stack([answer.flatten(), wanted.flatten()]))[0, 1] > 0.99


def test_a_layer_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"no layer 'nine'.*: 0, 1, 2, 3, 4"):
        found(ExcitationBackprop(layer="nine"), net())
    with pytest.raises(InputError, match="rise"):
        found(ExcitationBackprop(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 40, 4)))


def test_boxes_without_layers_or_gradients_are_refused_with_the_way_out(black_box, examples):
    with pytest.raises(InputError, match=r"PlantedEvidence shows none.*rise"):
        ExcitationBackprop()(black_box, *examples, generator=Generator())
    with pytest.raises(GradientError, match="rise"):
        ExcitationBackprop()(QueryOnly(black_box), *examples, generator=Generator())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"contrastive": 1}, "True or False"), ({"layer": 3}, "dotted name"), ({"layer": ""}, "name")],
)
def test_bad_arguments_are_refused_at_once(wrong, says):
    with pytest.raises(InputError, match=says):
        ExcitationBackprop(**wrong)


def test_a_map_that_the_answer_does_not_pass_through_is_refused():
    """Behind the last attention only the class token counts: an empty map would be a wrong answer."""
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, depth=2, img_size=64, num_classes=4
        ).eval()
        torch.nn.init.normal_(net.head.weight)
    black_box, images = (
        TorchBlackBox(net, size=64),
        torch.rand(1, 3, 64, 64, generator=Generator().manual_seed(0)),
    )
    with pytest.raises(InputError, match=r"arrives at the map of .*grad-cam"):
        ExcitationBackprop()(black_box, images, torch.tensor([1]), generator=Generator())
