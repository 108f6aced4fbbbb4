"""explain(), a masking network and Grad-CAM on a model of every family: they answer, and the model
and the random state come back untouched.

Weights are random and nothing is downloaded. For each module of timm the list names its smallest
model, with the side in pixels that it is given; `SMALLER` builds the large ones with fewer and
narrower layers of the same kind. Those of more than 200 million weights, and those that take no
images, are named in `LEFT_OUT` with the reason.
"""

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from saliencykit import BlackBox, explain
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.realtime.encoder import TrunkEncoder
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.target_layer import find_target_layer
from saliencykit.registry.coerce import as_black_box

# timm's module: a model and the side of its input in pixels
TIMM = {
    "beit": "beit_base_patch16_224@64",
    "byoanet": "haloregnetz_b@224",
    "byobnet": "mobileone_s1@64",
    "cait": "cait_xxs24_224@64",
    "coat": "coat_lite_tiny@64",
    "convit": "convit_tiny@64",
    "convmixer": "convmixer_768_32@64",
    "convnext": "convnext_atto@64",
    "cpubone": "cpubone_nano@64",
    "crossvit": "crossvit_tiny_240@240",
    "csatv2": "csatv2@128",
    "cspnet": "cs3darknet_focus_s@64",
    "cspnext": "cspnext_tiny@64",
    "davit": "davit_tiny@64",
    "deit": "deit_tiny_patch16_224@64",
    "densenet": "densenet121@64",
    "dla": "dla46x_c@64",
    "dpn": "dpn48b@64",
    "edgenext": "edgenext_xx_small@64",
    "efficientformer": "efficientformer_l1@224",
    "efficientformer_v2": "efficientformerv2_s0@64",
    "efficientnet": "efficientnet_lite0@64",
    "efficientvim": "efficientvim_m1@224",
    "efficientvit_mit": "efficientvit_b0@64",
    "efficientvit_msra": "efficientvit_m0@64",
    "eva": "eva02_tiny_patch14_224@64",
    "fasternet": "fasternet_t0@64",
    "fastvit": "fastvit_t8@64",
    "focalnet": "focalnet_tiny_srf@64",
    "gcvit": "gcvit_xxtiny@64",
    "ghostnet": "ghostnet_050@64",
    "hardcorenas": "hardcorenas_a@64",
    "hgnet": "hgnetv2_b0@64",
    "hiera": "hiera_tiny_224@64",
    "hieradet_sam2": "hieradet_small@64",
    "hrnet": "hrnet_w18_small@64",
    "iformer": "iformer_t@64",
    "inception_next": "inception_next_atto@64",
    "inception_resnet_v2": "inception_resnet_v2@75",
    "inception_v3": "inception_v3@75",
    "inception_v4": "inception_v4@75",
    "lcnetv2": "lcnetv2_small@64",
    "levit": "levit_128s@128",
    "lowformer": "lowformer_b0@64",
    "mambaout": "mambaout_femto@64",
    "maxxvit": "coatnet_pico_rw_224@64",
    "metaformer": "poolformer_s12@64",
    "mlp_mixer": "gmlp_ti16_224@64",
    "mobilenetv3": "mobilenetv3_small_050@64",
    "mobilevit": "mobilevit_xxs@128",
    "mvitv2": "mvitv2_tiny@64",
    "naflexvit": "naflexvit_so150m2_patch16_reg1_gap@64",
    "nasnet": "nasnetalarge@64",
    "nest": "nest_tiny@64",
    "nextvit": "nextvit_small@64",
    "nfnet": "nf_regnet_b0@64",
    "pit": "pit_ti_224@64",
    "pnasnet": "pnasnet5large@64",
    "pvt_v2": "pvt_v2_b0@64",
    "rdnet": "rdnet_tiny@64",
    "regnet": "regnetx_002@64",
    "repghost": "repghostnet_050@64",
    "repvit": "repvit_m1@64",
    "res2net": "res2next50@64",
    "resnest": "resnest14d@64",
    "resnet": "resnet10t@64",
    "resnetv2": "resnetv2_18@64",
    "rexnet": "rexnet_100@64",
    "selecsls": "selecsls42@64",
    "senet": "legacy_seresnet18@64",
    "sequencer": "sequencer2d_s@64",
    "shvit": "shvit_s1@64",
    "sknet": "skresnet18@64",
    "starnet": "starnet_s050@64",
    "swiftformer": "swiftformer_xs@64",
    "swin_transformer": "swin_tiny_patch4_window7_224@64",
    "swin_transformer_v2": "swinv2_tiny_window8_256@64",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224@64",
    "tiny_vit": "tiny_vit_5m_224@64",
    "tnt": "tnt_s_legacy_patch16_224@64",
    "tresnet": "tresnet_m@64",
    "twins": "twins_svt_small@64",
    "vgg": "vgg11@64",
    "visformer": "visformer_tiny@64",
    "vision_transformer": "vit_tiny_patch16_224@64",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224@64",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224@64",
    "vision_transformer_sam": "samvit_base_patch16_224@64",
    "vitamin": "vitamin_small_224@64",
    "volo": "volo_d1_224@64",
    "vovnet": "ese_vovnet19b_slim_dw@64",
    "xception": "legacy_xception@64",
    "xception_aligned": "xception41p@64",
    "xcit": "xcit_nano_12_p16_224@64",
}
# options of models whose own form takes more than two seconds
SMALLER = {
    "beit_base_patch16_224": {"depth": 2, "embed_dim": 192, "num_heads": 3},
    "cait_xxs24_224": {"depth": 2},
    "coatnet_pico_rw_224": {"depths": (1, 1, 1, 1)},
    "convit_tiny": {"depth": 3, "local_up_to_layer": 2},
    "crossvit_tiny_240": {"depth": ((1, 2, 0),)},
    "davit_tiny": {
        "embed_dims": (24, 48, 96, 192),
        "num_heads": (1, 2, 4, 8),
        "depths": (1, 1, 1, 1),
    },
    "deit_tiny_patch16_224": {"depth": 2},
    "densenet121": {"block_config": (2, 2, 2, 2)},
    "dpn48b": {"k_sec": (1, 1, 1, 1)},
    "eva02_tiny_patch14_224": {"depth": 2},
    "hiera_tiny_224": {"embed_dim": 24, "stages": (1, 1, 1, 1)},
    "hieradet_small": {"embed_dim": 24, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)},
    "naflexvit_so150m2_patch16_reg1_gap": {"embed_dim": 192, "depth": 2, "num_heads": 3},
    "pit_ti_224": {"depth": (1, 1, 1)},
    "res2next50": {"layers": (1, 1, 1, 1)},
    "samvit_base_patch16_224": {"depth": 3, "embed_dim": 192, "num_heads": 3},
    "sequencer2d_s": {
        "layers": (1, 1, 1, 1),
        "embed_dims": (48, 96, 96, 96),
        "hidden_sizes": (12, 24, 24, 24),
    },
    "swin_tiny_patch4_window7_224": {"embed_dim": 48, "depths": (2, 2, 2, 2)},
    "swinv2_cr_tiny_224": {"embed_dim": 48, "depths": (2, 2, 2, 2)},
    "swinv2_tiny_window8_256": {"embed_dim": 48, "depths": (2, 2, 2, 2)},
    "tiny_vit_5m_224": {"depths": (1, 1, 2, 1)},
    "tnt_s_legacy_patch16_224": {"embed_dim": 192, "depth": 2},
    "tresnet_m": {"layers": (1, 1, 1, 1), "width_factor": 0.5},
    "twins_svt_small": {"embed_dims": (32, 64, 128, 256), "depths": (1, 1, 2, 1)},
    "vgg11": {"mlp_ratio": 0.05},
    "visformer_tiny": {"depth": (1, 1, 1)},
    "vit_srelpos_small_patch16_224": {"embed_dim": 192, "num_heads": 3, "depth": 2},
    "vit_tiny_patch16_224": {"depth": 2},
    "vit_tiny_r_s16_p8_224": {"depth": 2},
    "xcit_nano_12_p16_224": {"depth": 2},
}
LEFT_OUT = {
    "deepseek_vit": "the smallest has 412 million weights",
    "gemma4_vit": "encoders without a classifier",
    "mobilenetv5": "the smallest has 294 million weights",
    "qwen3_vit": "encoders without a classifier",
}
# torchvision's class: a model and the side of its input, or the class itself, made `SMALLER`
TORCHVISION = {
    "AlexNet": "alexnet@64",
    "ConvNeXt": "convnext_tiny@64",
    "DenseNet": "densenet121@64",
    "EfficientNet": "efficientnet_b0@64",
    "GoogLeNet": "googlenet@64",
    "Inception3": "inception_v3@75",
    "MaxVit": "MaxVit@64",
    "MNASNet": "mnasnet0_5@64",
    "MobileNetV2": "mobilenet_v2@64",
    "MobileNetV3": "mobilenet_v3_small@64",
    "RegNet": "regnet_y_400mf@64",
    "ResNet": "resnet18@64",
    "ShuffleNetV2": "shufflenet_v2_x0_5@64",
    "SqueezeNet": "squeezenet1_1@64",
    "SwinTransformer": "SwinTransformer@64",
    "VGG": "vgg11_bn@64",
    "VisionTransformer": "VisionTransformer@64",
}
TORCHVISION_OPTIONS = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "MaxVit": {
        "input_size": (64, 64),
        "stem_channels": 16,
        "partition_size": 2,
        "block_channels": [16, 32],
        "block_layers": [1, 1],
        "head_dim": 16,
        "stochastic_depth_prob": 0.0,
    },
    "SwinTransformer": {
        "patch_size": [4, 4],
        "embed_dim": 48,
        "depths": [2, 2],
        "num_heads": [3, 6],
        "window_size": [7, 7],
    },
    "VisionTransformer": {
        "image_size": 64,
        "patch_size": 16,
        "num_layers": 2,
        "num_heads": 3,
        "hidden_dim": 192,
        "mlp_dim": 384,
    },
}
# the side of the image whose corners are changed, where the feature maps of a smaller one have so
# few positions that each sees all of it
SIDES = {
    "cpubone_nano": 224,
    "efficientnet_b0": 224,
    "ghostnet_050": 224,
    "hardcorenas_a": 224,
    "inception_v3": 139,
    "lcnetv2_small": 224,
    "lowformer_b0": 224,
    "mnasnet0_5": 224,
    "mobilenet_v2": 224,
    "mobilenet_v3_small": 224,
    "mobilenetv3_small_050": 224,
    "repghostnet_050": 224,
    "repvit_m1": 128,
    "selecsls42": 128,
    "squeezenet1_1": 128,
    "tiny_vit_5m_224": 224,
    "xception41p": 128,
}


def model_and_size(text: str) -> tuple[nn.Module, tuple[int, int]]:
    """`timm:name@side` or `torchvision:name@side`: the model with random weights, and the size of
    its input.
    """
    library, name = text.split(":")
    name, side = name.split("@")
    size = (int(side), int(side))
    if library == "timm":
        timm = pytest.importorskip("timm")
        options = dict(SMALLER.get(name, {}))
        if timm.models.get_pretrained_cfg(name).fixed_input_size:
            options["img_size"] = size[0]
        return timm.create_model(name, **options), size
    from torchvision import models

    make = getattr(models, name) if name in TORCHVISION else partial(models.get_model, name)
    return make(**TORCHVISION_OPTIONS.get(name, {})), size


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


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@contextmanager
def untouched_model(model: nn.Module) -> Iterator[None]:
    """The model and the random state must be the same afterwards."""
    state, facts, draws = weights_of(model), everything_about(model), random_states()
    yield
    assert everything_about(model) == facts
    after, own = random_states(), model.state_dict()
    assert torch.equal(after[0], draws[0])
    assert after[1:] == draws[1:]
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key].view(-1), value.view(-1)) for key, value in state.items())


def check_explain(model: nn.Module, size: tuple[int, int]) -> None:
    """Masks in range, by gradients and by queries alone."""
    image = torch.randn(1, 3, *size, generator=Generator().manual_seed(1))
    kept = image.clone()
    for masker in ("iterative:steps=2,areas=(0.2,0.2)", "rise:samples=8"):
        answer = explain(model, image, 1, masker=masker)
        assert answer.mask.shape == (1, 1, *size)
        assert torch.isfinite(answer.mask).all()
        assert 0 <= answer.mask.min() <= answer.mask.max() <= 1
        assert answer.provenance["inputs"] == "normalized"
        assert torch.equal(image, kept)


def check_masking_network(black_box: BlackBox, images: Tensor) -> None:
    """A masking network on the model's trunk, untrained: masks are finite and in range."""
    network = masking_network(black_box, images)
    with torch.no_grad():
        mask, presence = network(
            network.encoder.encode(black_box, images), torch.tensor([[0, 1], [2, 3]])
        )
    assert isinstance(network.encoder, TrunkEncoder)
    assert mask.shape[:2] == presence.shape == (2, 2)
    assert min(mask.shape[2:]) >= min(images.shape[2:]) // 4
    assert torch.isfinite(presence).all()
    assert 0 <= mask.min() <= mask.max() <= 1


def check_grad_cam(black_box: BlackBox, images: Tensor) -> None:
    """Attributions vary, and a change in a corner of the image changes that corner of the maps."""
    result = GradCam().attribute(black_box, images, torch.tensor([1, 0]), generator=Generator())
    assert result.attributions.isfinite().all()
    assert (result.attributions.flatten(1).std(1) > 0).all()
    feature_map = find_target_layer(black_box, images)
    bright, corners = images[:1].repeat(5, 1, 1, 1), [(0, 0), (0, 1), (1, 0), (1, 1)]
    for image, (top, left) in zip(bright[1:], corners, strict=True):
        image[:, half(top, image.shape[1]), half(left, image.shape[2])] = 3.0
    with torch.no_grad():
        _, (maps,) = read_feature_maps(black_box, bright, [feature_map])
    change, (h, w) = (maps[1:] - maps[:1]).abs().sum(1), feature_map.side
    means = torch.stack([change[:, half(y, h), half(x, w)].mean((1, 2)) for y, x in corners], 1)
    means = means / means.mean(0)  # some positions change more than others, whatever is edited
    # of an untrained mixer, or maps that see the whole image, all positions change nearly alike:
    # nothing can be said
    spread = float(means.max() / means.min().clamp_min(1e-12)) < 1.5
    assert spread or means.argmax(1).tolist() == [0, 1, 2, 3], (feature_map, means)


def half(which: int, side: int) -> slice:
    return slice(side // 2, None) if which else slice(side // 2)


def check(text: str) -> None:
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    model, size = model_and_size(text)
    for parameter in model.parameters():  # a head of zeros answers nothing, whatever it is shown
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter.data, std=0.02)
    model.train()
    next(model.children()).eval()  # flags of every kind, to see them come back
    next(model.parameters()).requires_grad_(False)
    with untouched_model(model):
        check_explain(model, size)
    black_box = as_black_box(model).without_preprocessing()
    images = torch.randn(2, 3, *size, generator=Generator().manual_seed(0))
    with torch.no_grad():
        black_box(images)  # it knows the number of classes from here on
    side = SIDES.get(re.split("[:@]", text)[1], size[0])
    larger = torch.randn(2, 3, side, side, generator=Generator().manual_seed(0))
    with untouched_model(model):
        check_masking_network(black_box, images)
        check_grad_cam(black_box, larger)


def test_one_family() -> None:
    check("torchvision:squeezenet1_1@64")


@pytest.mark.slow
@pytest.mark.parametrize("family", TIMM)
def test_every_family_of_timm(family: str) -> None:
    check(f"timm:{TIMM[family]}")


@pytest.mark.slow
@pytest.mark.parametrize("family", TORCHVISION)
def test_every_family_of_torchvision(family: str) -> None:
    check(f"torchvision:{TORCHVISION[family]}")


def test_no_family_of_torchvision_is_forgotten() -> None:
    from saliencykit.black_boxes.torchvision import _builders

    assert {made.__name__ for made in _builders().values()} == set(TORCHVISION)


def test_nearly_all_of_timm_is_there() -> None:
    timm = pytest.importorskip("timm")
    known = set(timm.list_modules())
    assert len(known & set(TIMM)) >= 60
    assert not known & set(TIMM) & set(LEFT_OUT)
    there = set(timm.list_models())
    absent = [
        name for family, name in TIMM.items() if family in known and name.split("@")[0] not in there
    ]
    assert len(absent) < 3, absent  # smaller models come with newer versions
