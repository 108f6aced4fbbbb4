import copy

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.model_fingerprint import count_values, fingerprint
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched


@pytest.fixture
def black_box(net):
    return net("convolutional")


def other_form(black_box, change):
    model = copy.deepcopy(black_box.model)
    return TorchBlackBox(change(model) or model)


def test_a_copy_has_the_same(black_box):
    assert fingerprint(other_form(black_box, lambda m: None)) == fingerprint(black_box)
    assert len(fingerprint(black_box)) == 32


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.half(),
        lambda m: m.train(),
        lambda m: m.requires_grad_(False),
        lambda m: m.to(memory_format=torch.channels_last),
        lambda m: m.double(),
        lambda m: nn.ModuleDict({"renamed": m}),
        lambda m: m.stages[0][1].num_batches_tracked.add_(7) and None,
    ],
    ids=["half", "train", "frozen", "channels_last", "double", "renamed", "counted"],
)
def test_forms_that_are_the_same_network(black_box, change):
    assert fingerprint(other_form(black_box, change)) == fingerprint(black_box)
    assert count_values(other_form(black_box, change)) == count_values(black_box)


def test_other_weights_differ(net, black_box):
    def nudge(model):
        with torch.no_grad():
            model.fc.bias[0] += 0.01

    def seen(model):
        model.stages[1][1].running_mean[0] += 0.05

    assert fingerprint(net("convolutional", seed=1)) != fingerprint(black_box)
    assert fingerprint(net("channels-last")) != fingerprint(black_box)
    assert fingerprint(other_form(black_box, nudge)) != fingerprint(black_box)
    assert fingerprint(other_form(black_box, seen)) != fingerprint(black_box)
    assert count_values(net("channels-last")) != count_values(black_box)


def test_torchvision_and_timm_agree():
    timm, models = pytest.importorskip("timm"), pytest.importorskip("torchvision.models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = models.mobilenet_v2(width_mult=1.0).eval()
        other = timm.create_model("mobilenetv2_100").eval()
    assert fingerprint(TorchBlackBox(one)) != fingerprint(TorchBlackBox(other))
    other.load_state_dict(dict(zip(other.state_dict(), one.state_dict().values(), strict=True)))
    assert fingerprint(TorchBlackBox(one)) == fingerprint(TorchBlackBox(other))


def test_without_a_module_there_is_none():
    assert fingerprint(PlantedEvidence()) is None
    assert count_values(PlantedEvidence()) == 0


def test_it_only_reads(black_box):
    with untouched("fingerprint", black_box.model):
        fingerprint(black_box), count_values(black_box)
