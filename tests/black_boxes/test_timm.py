"""Models of timm by name and as objects."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from saliencykit.black_boxes.timm import timm_black_box, wrap_timm
from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_black_box

timm = pytest.importorskip("timm")

SMALL = {"depth": 1, "embed_dim": 48, "num_heads": 3}
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",
        "test_vit",
        "mobilenetv3_small_050",
        "vit_base_patch16_siglip_224.webli",
        "inception_v3",
        "efficientformerv2_s0",
    ],
)
def test_images_are_prepared_as_timm_prepares_them(name: str) -> None:
    options = SMALL if "vit_base" in name else {}
    with torch.device("meta" if name == "inception_v3" else "cpu"):  # older ViTs need the CPU
        model = timm.create_model(name, num_classes=1000, **options)
    config = timm.data.resolve_model_data_config(model)
    theirs = timm.data.create_transform(**config)(IMAGE)
    black_box = wrap_timm(model)
    assert black_box is not None
    ours, geometry = black_box.prepare(IMAGE)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (black_box.mean, black_box.std))
    torch.testing.assert_close((ours[0] - mean) / std, theirs, atol=1e-6, rtol=0)
    assert geometry.size == config["input_size"][1:]


def test_class_names() -> None:
    names = timm_black_box("test_resnet", pretrained=False).class_names
    assert names is not None
    assert len(names) == 1000
    assert len(set(names)) == 999  # two cranes, a bird and a machine, of which WordNet says no more
    assert (names[0], names[281]) == ("tench", "tabby")
    assert timm_black_box("test_resnet", pretrained=False, num_classes=7).class_names is None
    names = ("nut", "bolt")
    mine = timm_black_box("test_resnet", pretrained=False, num_classes=2, class_names=names)
    assert mine.class_names == names
    large = timm.create_model("vit_tiny_patch16_224.augreg_in21k", **SMALL)
    assert len(wrap_timm(large).class_names) == large.num_classes == 21843


def test_objects_tell_their_own_size_and_channels() -> None:
    sized = wrap_timm(timm.create_model("test_vit", img_size=96))
    assert sized.size == (96, 96)
    assert sized(torch.rand(1, 3, 96, 96)).shape == (1, 1000)
    gray = wrap_timm(timm.create_model("test_resnet", in_chans=1))
    assert len(gray.mean) == len(gray.std) == 1
    assert gray(gray.prepare(IMAGE)[0]).shape == (1, 1000)
    many = wrap_timm(timm.create_model("test_resnet", in_chans=5))
    assert many.mean is None


def test_only_timm_models_are_timm_models(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = timm.create_model("test_resnet")
    assert wrap_timm(nn.Sequential(nn.Identity(), inner)) is None
    claims = nn.Linear(2, 2)
    claims.pretrained_cfg = "mine"
    assert wrap_timm(claims) is None
    for name in [key for key in sys.modules if key.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    assert wrap_timm(nn.Linear(2, 2)) is None


def test_random_weights_are_always_the_same_and_the_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    first = as_black_box("timm:test_resnet,pretrained=false")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    second = as_black_box("timm:test_resnet,pretrained=false")
    pairs = zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_local_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    model = timm.create_model("test_resnet", num_classes=11).eval()
    save_file(model.state_dict(), path)
    black_box = as_black_box(
        f"timm:test_resnet,checkpoint={path},mean=(0.5,0.5,0.5),std=(0.25,0.25,0.25),size=64"
    )
    assert black_box.size == 64
    assert black_box.mean == (0.5, 0.5, 0.5)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(black_box(x), model((x - 0.5) / 0.25))
    assert black_box.num_classes == 11
    with pytest.raises(InputError, match="does not fit"):
        timm_black_box("test_vit", checkpoint=path)
    with pytest.raises(InputError, match="not both"):
        timm_black_box("test_resnet", checkpoint=path, pretrained=True)


def test_unknown_names_and_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"Did you mean .*resnet18"):
        timm_black_box("resnet181")
    with pytest.raises(InputError, match=r"resnet18\.nonsense"):
        timm_black_box("resnet18.nonsense")

    def no_network(*_: object, **options: object) -> nn.Module:
        raise OSError("no network here")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(
        InputError,
        match=r"no network here. Without a network write "
        r"'timm:resnet18,checkpoint=.*pretrained=false'",
    ):
        timm_black_box("resnet18")
