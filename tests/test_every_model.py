"""explain() and a masking network on a model of every family: they answer, and the model and the
random state come back untouched.

Weights are random and nothing is downloaded. For each module of timm the list names its smallest
model; those of more than 200 million weights, and those that take no images, are named in
`LEFT_OUT` with the reason.
"""

import os
import random

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saliencykit import explain
from saliencykit.maskers.realtime.encoder import TrunkEncoder
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.registry.coerce import as_black_box

# timm's module: a model, where needed with its side in pixels (its own, if none is given)
TIMM = {
    "beit": "beit_base_patch16_224",
    "byoanet": "haloregnetz_b",
    "byobnet": "mobileone_s1",
    "cait": "cait_xxs24_224",
    "coat": "coat_lite_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32@64",
    "convnext": "convnext_atto",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121@128",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "efficientnet_lite0",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "eva02_tiny_patch14_224",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf@128",
    "gcvit": "gcvit_xxtiny",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_a",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "hieradet_small@128",
    "hrnet": "hrnet_w18_small@128",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2@139",
    "inception_v3": "inception_v3@139",
    "inception_v4": "inception_v4@139",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "mambaout_femto",
    "maxxvit": "coatnet_pico_rw_224",
    "metaformer": "poolformer_s12@128",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny@128",
    "naflexvit": "naflexvit_so150m2_patch16_reg1_gap@64",
    "nasnet": "nasnetalarge@64",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small@128",
    "nfnet": "nf_regnet_b0",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large@64",
    "pvt_v2": "pvt_v2_b0",
    "rdnet": "rdnet_tiny@128",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1@128",
    "res2net": "res2next50@128",
    "resnest": "resnest14d@128",
    "resnet": "resnet10t",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42@128",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s@128",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m@128",
    "twins": "twins_svt_small",
    "vgg": "vgg11@64",
    "visformer": "visformer_tiny",
    "vision_transformer": "vit_tiny_patch16_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224@128",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception@128",
    "xception_aligned": "xception41p@128",
    "xcit": "xcit_nano_12_p16_224",
}
# models of their own kind whose smallest form would take more than ten seconds
SMALLER = {
    "beit_base_patch16_224": {"depth": 3},
    "samvit_base_patch16_224": {"depth": 3},
    "volo_d1_224": {"img_size": 128},
    "mvitv2_tiny": {"img_size": 128},
    "vit_b_16": {"image_size": 96},
}
LEFT_OUT = {
    "deepseek_vit": "the smallest has 412 million weights",
    "gemma4_vit": "encoders without a classifier",
    "mobilenetv5": "the smallest has 294 million weights",
    "qwen3_vit": "encoders without a classifier",
}
TORCHVISION = {
    "AlexNet": "alexnet",
    "ConvNeXt": "convnext_tiny@96",
    "DenseNet": "densenet121@128",
    "EfficientNet": "efficientnet_b0",
    "GoogLeNet": "googlenet",
    "Inception3": "inception_v3@139",
    "MaxVit": "maxvit_t",
    "MNASNet": "mnasnet0_5",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3_small",
    "RegNet": "regnet_y_400mf",
    "ResNet": "resnet18",
    "ShuffleNetV2": "shufflenet_v2_x0_5",
    "SqueezeNet": "squeezenet1_1",
    "SwinTransformer": "swin_t@96",
    "VGG": "vgg11_bn@64",
    "VisionTransformer": "vit_b_16@96",
}
QUICK = (
    "timm:test_convnext@64",
    "timm:test_efficientnet@64",
    "timm:test_maxvit",
    "timm:test_nfnet@64",
    "timm:test_vit",
    "timm:levit_128s",
    "timm:mobilenetv3_small_050@64",
    "timm:resnet10t@64",
    "timm:starnet_s050@64",
    "timm:xcit_nano_12_p16_224@64",
    "torchvision:shufflenet_v2_x0_5@64",
    "torchvision:squeezenet1_1@64",
)


def model_and_size(text: str) -> tuple[nn.Module, tuple[int, int]]:
    """`timm:name@side` or `torchvision:name@side`: the model with random weights, and the size of
    its input.
    """
    library, name = text.split(":")
    name, _, side = name.partition("@")
    if library == "timm":
        timm = pytest.importorskip("timm")
        model = timm.create_model(name, **SMALLER.get(name, {}))
        size = tuple(model.pretrained_cfg["input_size"][1:])
    else:
        from torchvision import models

        options = (
            {"init_weights": False}
            if name in ("googlenet", "inception_v3")
            else SMALLER.get(name, {})
        )
        model = models.get_model(name, **options)
        size = (224, 224)
    return model, (int(side), int(side)) if side else size


def everything_about(model: nn.Module) -> list[object]:
    """What a borrowed model must come back with: modes, flags, gradients, hooks and attributes."""
    facts: list[object] = []
    for name, module in model.named_modules():
        hooks = [
            len(value)
            for key, value in sorted(module.__dict__.items())
            if "hooks" in key and hasattr(value, "__len__")
        ]
        facts.append((name, type(module), module.training, hooks, sorted(module.__dict__)))
    for name, parameter in model.named_parameters():
        facts.append(
            (
                name,
                id(parameter),
                parameter.requires_grad,
                parameter.grad is None,
                parameter.stride(),
            )
        )
    return facts


def random_states() -> tuple[Tensor, object, object]:
    return torch.get_rng_state(), random.getstate(), tuple(map(str, np.random.get_state()))


def check_masking_network(model: nn.Module, size: tuple[int, int]) -> None:
    """A masking network on the model's trunk, untrained: masks are finite and in range, and the
    model comes back as it was.
    """
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        if (
            parameter.ndim > 1 and not parameter.any()
        ):  # a head of zeros answers nothing, whatever it is shown
            nn.init.normal_(parameter.data, std=0.02)
            state = {key: value.clone() for key, value in model.state_dict().items()}
    facts, draws = everything_about(model), random_states()
    black_box, images = (
        as_black_box(model).without_preprocessing(),
        torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)),
    )
    network = masking_network(black_box, images)
    with torch.no_grad():
        mask, presence = network(
            network.encoder.encode(black_box, images), torch.tensor([[0, 1], [2, 3]])
        )
    assert isinstance(network.encoder, TrunkEncoder)
    assert mask.shape[:2] == presence.shape == (2, 2)
    assert min(mask.shape[2:]) >= min(size) // 4
    assert torch.isfinite(presence).all()
    assert 0 <= mask.min() <= mask.max() <= 1
    assert everything_about(model) == facts
    assert torch.equal(random_states()[0], draws[0])
    assert random_states()[1:] == draws[1:]
    own = model.state_dict()
    assert all(torch.equal(own[key].view(-1), value.view(-1)) for key, value in state.items())


def check(text: str) -> tuple[nn.Module, tuple[int, int]]:
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    model, size = model_and_size(text)
    model.train()
    next(model.children()).eval()  # flags of every kind, to see them come back
    next(model.parameters()).requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    facts = everything_about(model)
    image = torch.randn(1, 3, *size)
    kept = image.clone()
    draws = random_states()
    for masker in ("iterative:steps=2,areas=(0.2,0.2)", "rise:samples=8"):
        answer = explain(model, image, 1, masker=masker)
        assert answer.mask.shape == (1, 1, *size)
        assert torch.isfinite(answer.mask).all()
        assert 0 <= answer.mask.min() <= answer.mask.max() <= 1
        assert answer.provenance["inputs"] == "normalized"
        assert torch.equal(image, kept)
        after = random_states()
        assert torch.equal(after[0], draws[0])
        assert after[1:] == draws[1:]
        assert everything_about(model) == facts
        own = model.state_dict()
        assert own.keys() == state.keys()
        assert all(torch.equal(own[key].view(-1), value.view(-1)) for key, value in state.items())
    return model, size


@pytest.mark.parametrize("text", QUICK)
def test_twelve_families(text: str) -> None:
    check(text)


@pytest.mark.slow
@pytest.mark.parametrize("family", TIMM)
def test_every_family_of_timm(family: str) -> None:
    check_masking_network(*check(f"timm:{TIMM[family]}"))


@pytest.mark.slow
@pytest.mark.parametrize("family", TORCHVISION)
def test_every_family_of_torchvision(family: str) -> None:
    check_masking_network(*check(f"torchvision:{TORCHVISION[family]}"))


def test_no_family_of_torchvision_is_forgotten() -> None:
    from saliencykit.black_boxes.torchvision import _builders

    assert {made.__name__ for made in _builders().values()} == set(TORCHVISION)


def test_nearly_all_of_timm_is_there() -> None:
    timm = pytest.importorskip("timm")
    known = set(timm.list_modules())
    assert len(known & set(TIMM)) >= 60
    assert not known & set(TIMM) & set(LEFT_OUT)
    for family, name in TIMM.items():
        if family in known:
            assert name.split("@")[0] in timm.list_models(module=family), family
