"""Grad-CAM against Captum, the formula on tokens, and maps of every model family."""

import importlib.util
from pathlib import Path

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.target_layer import find_target_layer
from saliencykit.registry.coerce import as_black_box
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.unchanged import untouched

_spec = importlib.util.spec_from_file_location(
    "every_model", Path(__file__).parents[2] / "test_every_model.py"
)
every_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(every_model)

LABELS = torch.tensor([3, 0, 1])
TINY = (
    "timm:test_byobnet",
    "timm:test_convnext",
    "timm:test_efficientnet",
    "timm:test_maxvit",
    "timm:test_mambaout",
    "timm:test_nfnet",
    "timm:test_resnet",
    "timm:test_vit",
    "timm:test_vit4",
    "timm:resnet10t@64",
    "timm:levit_128s",
    "timm:xcit_nano_12_p16_224@112",
    "torchvision:swin_t@96",
    "torchvision:squeezenet1_1@128",
)


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


def lively(text):
    """A model of random weights that gives varied logits, and the size of its input."""
    torch.manual_seed(0)
    model, size = every_model.model_and_size(text)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # a head of zeros has no gradient
            nn.init.normal_(parameter.data, std=0.02)
    return model.eval(), size


def half(which, side):
    return slice(side // 2, None) if which else slice(side // 2)


def check_family(text):
    """The map varies, the model is left untouched, and a change in a corner changes that corner."""
    with torch.random.fork_rng(devices=[]):
        model, size = lively(text)
    black_box, x = (
        as_black_box(model).without_preprocessing(),
        torch.randn(2, 3, *size, generator=Generator().manual_seed(0)),
    )
    with torch.no_grad():
        black_box(x)  # it knows the number of classes from here on
    facts, draws = every_model.everything_about(model), torch.get_rng_state()
    result = attribute(GradCam(), black_box, x, torch.tensor([1, 0]))
    assert every_model.everything_about(model) == facts
    assert torch.equal(torch.get_rng_state(), draws)
    assert result.attributions.isfinite().all()
    assert (result.attributions.flatten(1).std(1) > 0).all()
    feature_map = find_target_layer(black_box, x)
    bright, corners = x[:1].repeat(5, 1, 1, 1), [(0, 0), (0, 1), (1, 0), (1, 1)]
    for image, (top, left) in zip(bright[1:], corners, strict=True):
        image[:, half(top, size[0]), half(left, size[1])] = 3.0
    with torch.no_grad():
        _, (maps,) = read_feature_maps(black_box, bright, [feature_map])
    change, (h, w) = (maps[1:] - maps[:1]).abs().sum(1), feature_map.side
    means = torch.stack([change[:, half(y, h), half(x, w)].mean((1, 2)) for y, x in corners], 1)
    means = means / means.mean(0)  # some positions change more than others, whatever is edited
    # of an untrained mixer, or maps that see the whole image, all positions change nearly alike:
    # nothing can be said
    spread = float(means.max() / means.min().clamp_min(1e-12)) < 1.5
    assert spread or means.argmax(1).tolist() == [0, 1, 2, 3], (text, feature_map, means)


@pytest.mark.parametrize("text", TINY)
def test_fourteen_families(text):
    timm = pytest.importorskip("timm")
    if text.startswith("timm:") and not timm.is_model(text.removeprefix("timm:").split("@")[0]):
        pytest.skip("this version of timm lacks it")
    check_family(text)


@pytest.mark.slow
@pytest.mark.parametrize("family", every_model.TIMM)
def test_every_family_of_timm(family):
    check_family(f"timm:{every_model.TIMM[family]}")


@pytest.mark.slow
@pytest.mark.parametrize("family", every_model.TORCHVISION)
def test_every_family_of_torchvision(family):
    check_family(f"torchvision:{every_model.TORCHVISION[family]}")


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
