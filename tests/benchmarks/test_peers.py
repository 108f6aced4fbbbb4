"""The peers' benchmark: every pair that can be made here runs on a tiny case; its statistics. Its
timings are no test.
"""

import pytest
import torch
from torch import nn

from benchmarks.peers import PAIRS, Case, Pair, agreement, timed
from saliencykit.black_boxes.torch_module import TorchBlackBox


def of(one, other):
    return Pair("x", lambda case: 1, (1, 1), lambda case: (lambda: one, lambda: other))


def test_agreement_forgives_a_factor_and_an_offset():
    theirs = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    case = object()
    assert agreement(of(3 * theirs - 1, theirs), case).endswith("| 1.000000")
    largest, correlation = agreement(of(theirs.flip(3), theirs), case).split(" | ")
    assert float(largest) > 0.3
    assert float(correlation) < 0.5
    assert agreement(of(theirs, None), case) == "- | -"
    assert agreement(of(theirs, theirs), None) == "- | -"


def test_sides_take_turns():
    order = []
    timed((lambda: order.append("a"), lambda: order.append("b")), 3, warm=True)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]


@pytest.mark.parametrize(
    "key",
    ["feature-ablation", "gradient", "input-x-gradient", "integrated-gradients", "grad-cam-captum"],
)
def test_wrapped_and_exact_methods_agree_with_captum(key):
    pytest.importorskip("captum")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 300),
        )  # fmt: skip
    net.double().eval().requires_grad_(False)  # no rounding flips a ReLU
    raw = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)).double()
    case = Case(net, TorchBlackBox(net, mean=(0.5,) * 3, std=(0.25,) * 3, size=224), raw, 32, 8, 8)
    largest, correlation = agreement(PAIRS[key], case).split(" | ")
    assert float(largest) < 1e-8  # integrated gradients sum 32 points
    assert float(correlation) > 0.99999
