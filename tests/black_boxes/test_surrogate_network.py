import pytest
import torch
from torch import nn

from saliencykit.black_boxes.surrogate_network import (
    Architecture,
    SurrogateNetwork,
    make_surrogate_network,
)
from saliencykit.core.errors import InputError
from saliencykit.storage.tensor_file import fill
from saliencykit.storage.typed_json import typed


@pytest.mark.parametrize(
    ("side", "last"), [(8, 8), (16, 8), (32, 8), (64, 8), (80, 5), (100, 7), (224, 7)]
)
def test_the_last_maps_are_small_whatever_the_images(side, last):
    network = SurrogateNetwork(5, (side, side)).eval()
    assert network.stages(torch.zeros(1, 3, side, side)).shape[2:] == (last, last)
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 5)
    assert 2e3 < sum(p.numel() for p in network.parameters()) < 6e5


def test_a_number_out_of_range():
    with pytest.raises(InputError, match="all must be >= 1"):
        SurrogateNetwork(0)


def test_a_module_is_copied():
    mine = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    made, facts, statistics = make_surrogate_network(mine, 2, (2, 2), 3)
    assert made is not mine
    assert torch.equal(made[1].weight, mine[1].weight)
    assert (facts, statistics) == ({"kind": "module", "class": "Sequential"}, None)
    with pytest.raises(InputError, match="network=\\.\\.\\."):
        typed(facts, Architecture, "f").build()


def test_ones_own_widths_are_built_again():
    made, facts, _ = make_surrogate_network(
        SurrogateNetwork(3, (16, 20), 1, widths=(4, 6), depth=1), 3, (16, 20), 1
    )
    again = typed(facts, Architecture, "f").build()
    fill(again, made.state_dict(), "f")
    images = torch.rand(2, 1, 16, 20)
    assert torch.equal(again.eval()(images), made.eval()(images))


def test_timm_with_its_statistics():
    pytest.importorskip("timm")
    made, facts, statistics = make_surrogate_network(
        "timm:test_resnet,pretrained=false", 7, (64, 64), 3
    )
    assert facts == {"kind": "timm", "name": "test_resnet", "num_classes": 7}
    assert len(statistics[0]) == 3
    typed(facts, Architecture, "f").build().load_state_dict(made.state_dict())


@pytest.mark.parametrize(
    ("wanted", "channels", "words"),
    [
        (3, 3, "got int"),
        ("timm:test_resnet,size=3", 3, "pretrained=false"),
        ("resnet18", 1, "takes RGB"),
        ("resnot", 3, "no model"),
    ],
)
def test_what_is_no_network(wanted, channels, words):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=words):
        make_surrogate_network(wanted, 5, (32, 32), channels)


def test_an_unknown_kind_in_a_file():
    with pytest.raises(InputError, match="invalid value 'other' in kind"):
        typed({"kind": "other"}, Architecture, "f")
