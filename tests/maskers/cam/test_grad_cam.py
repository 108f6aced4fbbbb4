"""Grad-CAM against Captum, and the formula on tokens (every model family: test_every_model)."""

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Generator

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.unchanged import untouched

LABELS = torch.tensor([3, 0, 1])


def images(side=16, n=3):
    return torch.rand(n, 3, side, side, generator=Generator().manual_seed(1))


def attribute(masker, black_box, x, labels=LABELS):
    return masker.attribute(black_box, x, labels, generator=Generator())


@pytest.mark.parametrize("layer", ["0", "4"])
def test_equals_captums(layer):
    model, x = small_network().eval().double(), images().double()  # no rounding flips a ReLU
    theirs = (
        LayerGradCam(model, model.get_submodule(layer)).attribute(x.clone(), target=LABELS).detach()
    )
    result = GradCam(layer=layer).mask(TorchBlackBox(model, size=16), x, LABELS, Generator())
    assert torch.allclose(
        result.attributions, theirs, rtol=0, atol=1e-10 * float(theirs.abs().max())
    )
    positive = theirs.clamp_min(0)
    wanted = positive / positive.amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    assert torch.allclose(result.mask, wanted, rtol=0, atol=1e-8)


def test_equals_captums_on_a_resnet():
    from torchvision import models

    model, x = models.resnet18().eval().double(), images(64).double()
    theirs = LayerGradCam(model, model.layer4).attribute(x.clone(), target=LABELS).detach()
    result = GradCam().mask(TorchBlackBox(model, size=64), x, LABELS, Generator())
    assert torch.allclose(
        result.attributions, theirs, rtol=0, atol=1e-10 * float(theirs.abs().max())
    )


def test_tokens_are_weighted_and_arranged_as_their_grid():
    timm = pytest.importorskip("timm")
    model, x = timm.create_model("test_vit").eval(), images(160)
    kept = []
    handle = model.blocks[-1].norm1.register_forward_hook(
        lambda m, given, output: kept.append(output)
    )
    logits = model(x)
    handle.remove()
    (slope,) = torch.autograd.grad(logits.gather(1, LABELS[:, None]).sum(), kept)
    maps, slope = kept[0].detach()[:, 1:], slope[:, 1:]
    wanted = (maps * slope.mean(1, keepdim=True)).sum(2).view(3, 1, 10, 10)
    result = GradCam().mask(TorchBlackBox(model, size=160), x, LABELS, Generator())
    assert torch.allclose(result.attributions, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert wanted.abs().max() > 0


@pytest.mark.parametrize("limit", [1, 2, None])
def test_any_batch_size_and_one_label_per_image_work(limit):
    model, x = small_network().eval(), images()
    whole = attribute(GradCam(), TorchBlackBox(model, size=16), x).attributions
    parts = attribute(
        GradCam(), TorchBlackBox(model, size=16, max_batch_size=limit), x
    ).attributions
    alone = [
        attribute(
            GradCam(), TorchBlackBox(model, size=16), x[i : i + 1], LABELS[i : i + 1]
        ).attributions
        for i in range(3)
    ]
    assert torch.allclose(whole, parts, atol=1e-6)
    assert torch.allclose(whole, torch.cat(alone), atol=1e-6)
    assert not torch.allclose(
        whole, attribute(GradCam(), TorchBlackBox(model, size=16), x, (LABELS + 1) % 4).attributions
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_the_model_is_left_untouched_and_frozen_weights_work(frozen):
    model = small_network().train()
    model.requires_grad_(not frozen)
    with untouched("GradCam", model):
        assert attribute(GradCam(), TorchBlackBox(model, size=16), images()).mask.max() <= 1


def test_an_exception_leaves_no_hook_behind():
    model = small_network().eval()
    attribute(GradCam(), TorchBlackBox(model, size=16), images())
    model[7].weight.data.fill_(float("nan"))
    with untouched("GradCam", model), pytest.raises(TypeError, match="NaN"):
        attribute(GradCam(), TorchBlackBox(model, size=16), images())


def test_a_label_without_positive_evidence_gets_an_empty_mask():
    model = small_network().eval()
    with torch.no_grad():
        model[7].weight[0] = 0
    result = attribute(
        GradCam(), TorchBlackBox(model, size=16), images(), torch.zeros(3, dtype=torch.int64)
    )
    assert not result.mask.any()


def test_bfloat16_and_compiled_models_work():
    model, x = small_network().eval(), images()
    wanted = attribute(GradCam(), TorchBlackBox(model, size=16), x).mask
    compiled = attribute(
        GradCam(), TorchBlackBox(torch.compile(model, backend="eager"), size=16), x
    ).mask
    assert torch.allclose(compiled, wanted, atol=1e-5)
    low = attribute(GradCam(), TorchBlackBox(small_network().eval().to(torch.bfloat16), size=16), x)
    assert low.attributions.dtype == torch.float32
    assert (low.mask - wanted).abs().mean() < 0.05


def test_black_boxes_without_submodules_are_refused_with_advice():
    black_box = PlantedEvidence()
    x, labels = black_box.examples(2, generator=Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"does not expose a torch module.*'rise'"):
        attribute(GradCam(), black_box, x, labels)
    with pytest.raises(GradientError):
        attribute(GradCam(), QueryOnly(TorchBlackBox(small_network().eval(), size=16)), images())
