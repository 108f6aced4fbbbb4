"""Which calls are made on rectangles: the table of test_run says that they are right, this one that
they are found.
"""

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.incremental.graph_tracing import record_trace
from saliencykit.networks.incremental.propagation_rules import (
    NCHW,
    NHWC,
    Mean,
    Pointwise,
    Sliding,
)
from saliencykit.networks.incremental.rule_inference import infer_rules


def rules(*layers):
    net = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)).eval()
    image = torch.rand(1, 3, 13, 12)
    net(image)  # gives the lazy layer its shape
    black_box = TorchBlackBox(net)
    black_box(image)
    with torch.no_grad():
        found, layouts = infer_rules(record_trace(black_box, image))
    return {n.target.__name__: rule for n, rule in found.items()}, {
        n.name: layout for n, layout in layouts.items()
    }


@pytest.mark.parametrize(
    ("layer", "extent", "stride", "padding"),
    [
        (
            nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=1, dilation=(1, 3)),
            (3, 4),
            (2, 1),
            (1, 1),
        ),
        (nn.Conv2d(3, 4, 5, padding="same"), (5, 5), (1, 1), (2, 2)),
        (nn.MaxPool2d(3, dilation=2), (5, 5), (3, 3), (0, 0)),
        (nn.AvgPool2d(2, padding=1), (2, 2), (2, 2), (1, 1)),
        (nn.ZeroPad2d((1, 2, 3, 4)), (1, 1), (1, 1), (3, 1)),
    ],
)
def test_sliding_layers(layer, extent, stride, padding):
    (rule,) = (rule for rule in rules(layer)[0].values() if isinstance(rule, Sliding))
    assert (rule.extent, rule.stride, rule.padding) == (extent, stride, padding)
    assert rule.pad_lowest == isinstance(layer, nn.MaxPool2d)


def test_the_divisor_of_an_average_counts_what_is_there():
    rule = rules(nn.AvgPool2d(2, padding=1, count_include_pad=False))[0]["avg_pool2d"]
    assert rule.divisor.shape == (7, 7)
    assert rule.divisor[0, 0] == 1
    assert rule.divisor[3, 3] == 4
    assert rules(nn.AvgPool2d(2))[0]["avg_pool2d"].divisor is None


class Turned(nn.Module):
    def forward(self, x):
        return torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (3,))


def test_layouts_follow_a_permutation():
    found, layouts = rules(Turned())
    assert isinstance(found["layer_norm"], Pointwise)
    assert layouts["layer_norm"] == NHWC
    assert layouts["image"] == NCHW
    assert NHWC.size((1, 5, 6, 3)) == (5, 6)


def test_a_mean_over_all_places_is_found_and_one_of_half_of_them_is_not():
    assert isinstance(rules(nn.AdaptiveAvgPool2d(1))[0]["adaptive_avg_pool2d"], Mean)
    assert "adaptive_avg_pool2d" not in rules(nn.AdaptiveAvgPool2d((1, 2)))[0]
