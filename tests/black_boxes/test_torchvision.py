"""Classifiers of torchvision by name and as objects."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from saliencykit.black_boxes.torchvision import torchvision_black_box, wrap_torchvision
from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_black_box

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8))
CLASSIFIERS = models.list_models(module=models)
# one of most families; the others with -m slow
FEW = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18"),
    *("shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11", "vit_b_16"),
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in CLASSIFIERS],
)
def test_every_classifier_is_known_by_its_parameters(name: str) -> None:
    if name.startswith("regnet") and "0mf" not in name:
        pytest.skip("cannot be built without memory, and is large")
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = models.get_model(
            name, **({"init_weights": False} if name in ("googlenet", "inception_v3") else {})
        )
    black_box = wrap_torchvision(model)
    assert black_box is not None
    default = models.get_model_weights(name).DEFAULT
    if name == "vit_h_14":  # built for 224 pixels, and its default weights are for 518
        default = models.ViT_H_14_Weights.IMAGENET1K_SWAG_LINEAR_V1
    assert black_box.class_names == tuple(default.meta["categories"])
    theirs = default.transforms()(IMAGE)
    ours, _ = black_box.prepare(IMAGE)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (black_box.mean, black_box.std))
    torch.testing.assert_close((ours[0] - mean) / std, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet50", "fc"), ("efficientnet_b3", "classifier.1"), ("vit_b_16", "heads.head")],
)
def test_a_new_head_keeps_the_statistics_and_has_no_names(name: str, head: str) -> None:
    with torch.device("meta"):
        model = models.get_model(name)
        parent, _, last = head.rpartition(".")
        old = model.get_submodule(head)
        setattr(model.get_submodule(parent), last, nn.Linear(old.in_features, 7))
    black_box = wrap_torchvision(model)
    assert black_box.class_names is None
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    assert black_box.mean == tuple(transforms.mean)
    assert black_box.size == transforms.crop_size[0]


def test_assumed_statistics_are_said() -> None:
    photo = Image.new("RGB", (80, 60))
    published = wrap_torchvision(models.squeezenet1_1())
    assert "assumed='SqueezeNet1_1_Weights.IMAGENET1K_V1'" in repr(published)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published.prepare(photo)
    new = wrap_torchvision(models.shufflenet_v2_x0_5(num_classes=6))
    with pytest.warns(UserWarning, match=r"mean=\(0.485, 0.456, 0.406\).*ShuffleNet.*write"):
        new.prepare(photo)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new.prepare(photo)
        new.without_preprocessing()(torch.rand(1, 3, 64, 64))
    assert (
        torchvision_black_box(
            "squeezenet1_1", weights=None, mean=(0.5,) * 3, std=(0.5,) * 3
        ).assumed
        == ""
    )


def test_what_the_family_does_not_agree_on_is_left_open() -> None:
    with torch.device("meta"):
        unlike = models.efficientnet_b0()
        unlike.classifier = nn.Sequential(nn.Linear(1280, 32), nn.Linear(32, 4))
        close_to_rounding = models.resnet18()
        close_to_rounding.fc = nn.Sequential(nn.Linear(512, 32), nn.Linear(32, 4))
    assert wrap_torchvision(unlike).mean is None
    assert wrap_torchvision(unlike).size is None
    black_box = wrap_torchvision(close_to_rounding)
    assert black_box.mean == (0.485, 0.456, 0.406)
    assert black_box.size == 224
    assert black_box.class_names is None


def test_only_torchvision_classifiers_are_torchvision_classifiers() -> None:
    class Mine(models.ResNet):
        pass

    inner = models.squeezenet1_1()
    assert wrap_torchvision(Mine(models.resnet.BasicBlock, [1, 1, 1, 1])) is None
    assert wrap_torchvision(nn.Sequential(nn.Identity(), inner)) is None
    assert wrap_torchvision(inner.features) is None
    assert wrap_torchvision(models.squeezenet.Fire(3, 4, 4, 4)) is None
    with torch.device("meta"):
        assert (
            wrap_torchvision(models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None))
            is None
        )
        assert wrap_torchvision(models.video.mc3_18()) is None


def test_random_weights_are_always_the_same_and_the_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, second = (as_black_box("torchvision:squeezenet1_1,weights=none") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.model.features[0].weight, second.model.features[0].weight)
    assert first.class_names[0] == "tench"


def test_a_local_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    model = models.squeezenet1_1(num_classes=6).eval()
    save_file(model.state_dict(), path)
    black_box = as_black_box(
        f"torchvision:squeezenet1_1,checkpoint={path},num_classes=6,probabilities=false"
    )
    assert black_box.class_names is None
    x = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (black_box.mean, black_box.std))
    torch.testing.assert_close(black_box(x), model((x - mean) / std))
    shuffle = models.shufflenet_v2_x0_5(num_classes=6)
    save_file(shuffle.state_dict(), path)
    assert torchvision_black_box("shufflenet_v2_x0_5", checkpoint=path, size=64).num_classes == 6
    with pytest.raises(InputError, match="does not fit"):
        torchvision_black_box("squeezenet1_1", checkpoint=path)


@pytest.mark.data
def test_the_delivered_weights_classify(data_folder: Path) -> None:
    black_box = torchvision_black_box(
        "squeezenet1_0", checkpoint=data_folder / "weights" / "squeezenet1_0_imagenet.safetensors"
    )
    data = pytest.importorskip("skimage.data")
    images, _ = black_box.prepare(Image.fromarray(data.chelsea()))
    assert black_box.class_names[int(black_box(images).argmax())] in (
        "tabby",
        "tiger cat",
        "Egyptian cat",
        "lynx",
    )


def test_unknown_names_and_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"Did you mean .*resnet18"):
        torchvision_black_box("resnet181")
    with pytest.raises(InputError, match="it has DEFAULT, IMAGENET1K_V1"):
        torchvision_black_box("resnet18", weights="V7")

    def no_network(*_: object, **options: object) -> nn.Module:
        raise OSError("no network here")

    monkeypatch.setattr(models, "get_model", no_network)
    with pytest.raises(
        InputError,
        match=r"no network here. Without a network write "
        r"'torchvision:resnet18,checkpoint=.*weights=none'",
    ):
        torchvision_black_box("resnet18")
