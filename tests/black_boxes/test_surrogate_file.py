import json
import os

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from saliencykit.black_boxes.preprocessing_inference import Preprocessing
from saliencykit.black_boxes.surrogate import SURROGATE_FILE, Surrogate
from saliencykit.black_boxes.surrogate_network import make_surrogate_network, round_to_half
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_black_box

KEY = "saliencykit-surrogate"


def made(network="own", **options):
    torch.manual_seed(1)
    module, architecture, statistics = make_surrogate_network(network, 5, (32, 32), 3)
    mean, std = statistics or ((0.5,) * 3, (0.25,) * 3)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(0.05)
    round_to_half(module)
    given = {
        "class_names": ("a", "b", "c", "d", "e"),
        "baseline_color": (0.1, 0.2, 0.3),
        "metadata": {"queries": 70},
    } | options
    return Surrogate(
        TorchBlackBox(module, mean=mean, std=std, size=32),
        5,
        (32, 32),
        architecture=architecture,
        **given,
    )


def answers(black_box):
    with torch.no_grad():
        return black_box(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("network", ["own", "timm:test_resnet,pretrained=false"])
def test_there_and_back_to_the_bit(tmp_path, network):
    if network != "own":
        pytest.importorskip("timm")
    one = made(
        network, preprocessing=Preprocessing((32, 32), "pad", 1.0, "bicubic", 3, (0.1, 0.2, 0.3))
    )
    path = one.save(tmp_path / "new" / "s.safetensors")
    two = Surrogate.load(str(path))
    assert torch.equal(answers(one), answers(two))
    assert fingerprint(one) == fingerprint(two)
    for name in (
        "num_classes",
        "input_size",
        "class_names",
        "baseline_color",
        "preprocessing",
        "metadata",
        "architecture",
    ):
        assert getattr(one, name) == getattr(two, name), name
    assert two.differentiable
    assert not any(p.requires_grad for p in two.module.parameters())
    assert os.path.getsize(path) < 3 * sum(p.numel() for p in one.module.parameters()) + 20_000


def test_its_path_is_a_model(tmp_path):
    path = made().save(tmp_path / "s.safetensors")
    for model in (str(path), path):
        assert torch.equal(answers(as_black_box(model)), answers(made()))


def test_a_module_of_ones_own_is_given_again(tmp_path):
    mine = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 5))
    one = made(mine)
    path = one.save(tmp_path / "s.safetensors")
    with pytest.raises(InputError, match="a Sequential, which cannot be built from the file"):
        Surrogate.load(path)
    blank = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 5))
    before = blank[2].weight.clone()
    assert torch.equal(answers(Surrogate.load(path, network=blank)), answers(one))
    assert torch.equal(blank[2].weight, before)
    with pytest.raises(InputError, match="do not fit the Linear"):
        Surrogate.load(path, network=nn.Linear(3, 5))


def test_the_black_box_prepares_where_the_file_does_not_know(tmp_path):
    path = made().save(tmp_path / "s.safetensors")
    image = Image.new("RGB", (50, 40), (9, 8, 7))
    with pytest.raises(InputError, match="does not say how to prepare"):
        Surrogate.load(path).prepare(image)
    black_box = TorchBlackBox(nn.Flatten(), mean=(0.5,) * 3, std=(1,) * 3, size=32)
    assert torch.equal(
        Surrogate.load(path, black_box).prepare(image)[0], black_box.prepare(image)[0]
    )


def change(path, header=None, **tensors):
    with safe_open(path, "pt") as file:
        held = json.loads(file.metadata()[KEY])
    save_file(load_file(path) | tensors, path, metadata={KEY: json.dumps(held | (header or {}))})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.unlink(), "there is no file"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "not a valid safetensors file"),
        (lambda p: save_file({"a": torch.zeros(1)}, p), "does not contain a saliencykit surrogate"),
        (
            lambda p: save_file({"a": torch.zeros(1)}, p, metadata={KEY: "{"}),
            "header .* is damaged",
        ),
        (
            lambda p: change(p, {"format": 7}),
            "has format 7 and this version of saliencykit reads 1",
        ),
        (
            lambda p: change(p, {"network": {"kind": "else"}}),
            "invalid value 'else' in network.kind",
        ),
        (lambda p: change(p, {"preprocessing": {"size": [3]}}), "is damaged"),
        (lambda p: change(p, extra=torch.zeros(2)), "is damaged"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path, spoil, words):
    path = made().save(tmp_path / "s.safetensors")
    spoil(path)
    with pytest.raises((InputError, ValueError), match=words):
        Surrogate.load(path)


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        made().save(tmp_path / "file" / "s.safetensors")
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        made().save(tmp_path / "s.pt")


def test_the_header_alone(tmp_path):
    assert SURROGATE_FILE.header(made().save(tmp_path / "s.safetensors")).metadata == {
        "queries": 70
    }
