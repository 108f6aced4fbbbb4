"""Excitation backprop: its layer, its map, the contrast, and refusals."""

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


def attribute(masker, model, images=IMAGES, labels=LABELS, **black_box):
    return masker.attribute(
        TorchBlackBox(model, size=images.shape[2:], **black_box),
        images,
        labels,
        generator=Generator(),
    )


def attributions_at_layer(masker, model, images=IMAGES, labels=LABELS):
    """The attributions at the layer's own size."""
    black_box = TorchBlackBox(model, size=tuple(images.shape[2:]))
    with torch.enable_grad():
        return masker.mask(black_box, images, labels, Generator()).attributions


def test_the_map_is_a_distribution_over_the_layer_and_the_contrast_a_difference_of_two():
    plain, contrast = (
        attributions_at_layer(ExcitationBackprop(), net()),
        attributions_at_layer(contrastive_excitation_backprop(), net()),
    )
    # of 32 x 40: the layer nearest to 14 a side
    assert plain.shape == contrast.shape == (3, 1, 16, 20)
    assert plain.min() >= 0
    assert torch.allclose(plain.sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    assert torch.allclose(contrast.sum((1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert contrast.min() < 0 < contrast.max()
    assert attributions_at_layer(ExcitationBackprop(layer="4"), net()).shape == (3, 1, 8, 10)


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
    plain = attributions_at_layer(ExcitationBackprop(layer="4"), model, images)
    difference = attributions_at_layer(contrastive_excitation_backprop(layer="4"), model, images)
    assert torch.allclose(plain, own, rtol=0, atol=1e-12)
    assert torch.allclose(difference, own - dual, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masker", [ExcitationBackprop(), contrastive_excitation_backprop()])
def test_the_mask_is_the_positive_part_over_its_maximum_and_depends_on_the_label(masker):
    with torch.enable_grad():
        output = masker.mask(TorchBlackBox(net(), size=(32, 40)), IMAGES, LABELS, Generator())
    assert torch.allclose(
        output.mask,
        output.attributions.clamp_min(0) / output.attributions.amax((1, 2, 3), keepdim=True),
    )
    other = attributions_at_layer(masker, net(), labels=torch.tensor([1, 2, 0]))
    assert (output.attributions - other).abs().amax((1, 2, 3)).min() > 1e-4


def test_batches_and_modes_make_no_difference_and_the_model_is_unchanged():
    model = net().train()
    with untouched("excitation", model, images=IMAGES):
        whole = attribute(ExcitationBackprop(), model).attributions
    for limit in (1, 2):
        assert torch.allclose(
            attribute(ExcitationBackprop(), model, max_batch_size=limit).attributions,
            whole,
            atol=1e-7,
        )
    assert torch.allclose(
        attribute(ExcitationBackprop(), model, IMAGES[1:2], LABELS[1:2]).attributions,
        whole[1:2],
        atol=1e-7,
    )
    assert (
        attribute(ExcitationBackprop(), model, IMAGES.double()).attributions.dtype == torch.float64
    )


def test_a_model_that_cannot_be_copied_is_used_unchanged():
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
        output = attributions_at_layer(ExcitationBackprop(layer="net.1"), model)
    assert torch.allclose(output.sum((1, 2, 3)), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_final_softmax_and_half_precision_make_no_difference(probabilities):
    model = (
        nn.Sequential(*net().eval(), nn.Softmax(1)) if probabilities else net().eval().bfloat16()
    )
    output = attribute(ExcitationBackprop(), model, probabilities=probabilities).attributions
    expected = attribute(ExcitationBackprop(), net().eval()).attributions
    assert torch.corrcoef(torch.stack([output.flatten(), expected.flatten()]))[0, 1] > 0.99


def test_an_unknown_layer_is_refused_with_a_list_of_known_ones():
    with pytest.raises(InputError, match=r"no layer 'nine'.*: 0, 1, 2, 3, 4"):
        attribute(ExcitationBackprop(layer="nine"), net())
    with pytest.raises(InputError, match="rise"):
        attribute(ExcitationBackprop(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 40, 4)))


def test_black_boxes_without_layers_or_gradients_are_refused(black_box, examples):
    with pytest.raises(InputError, match=r"PlantedEvidence does not expose.*rise"):
        ExcitationBackprop()(black_box, *examples, generator=Generator())
    with pytest.raises(GradientError, match="rise"):
        ExcitationBackprop()(QueryOnly(black_box), *examples, generator=Generator())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contrastive": 1}, "takes True or False"),
        ({"layer": 3}, "dotted name"),
        ({"layer": ""}, "name"),
    ],
)
def test_bad_arguments_are_refused_at_construction(wrong, message):
    with pytest.raises(InputError, match=message):
        ExcitationBackprop(**wrong)


def test_a_layer_that_the_probability_does_not_reach_is_refused():
    """After the last attention only the class token counts: the map would be empty."""
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
    with pytest.raises(InputError, match=r"is blocked before .*grad-cam"):
        ExcitationBackprop()(black_box, images, torch.tensor([1]), generator=Generator())


def test_a_blurred_map_is_the_map_at_the_size_of_the_image_under_a_gaussian():
    from scipy.ndimage import gaussian_filter

    plain = attribute(ExcitationBackprop(), net()).attributions
    blurred = attribute(ExcitationBackprop(blur=3), net()).attributions
    for ours, row in zip(blurred[:, 0], plain[:, 0], strict=True):
        wanted = gaussian_filter(row.double().numpy(), 3, mode="nearest", truncate=4)
        assert torch.allclose(ours.double(), torch.from_numpy(wanted), atol=1e-6)
    assert contrastive_excitation_backprop(blur=3).blur == 3
    with pytest.raises(InputError, match="blur"):
        ExcitationBackprop(blur=-1)
