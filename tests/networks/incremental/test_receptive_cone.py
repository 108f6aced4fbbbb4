"""The rectangles of a cone: they hold whatever a window changes, and are about as small as they can
be.
"""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.incremental.filled_windows import Windows
from saliencykit.networks.incremental.graph_tracing import record_trace
from saliencykit.networks.incremental.receptive_cone import ConePlan, build_cone


def plan_of(*layers, size=(40, 40)):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(3)
    ).eval()
    image = torch.rand(1, 3, *size, generator=Generator().manual_seed(0))
    net(image)  # gives the lazy layer its shape
    black_box = TorchBlackBox(net)
    black_box(image)
    with torch.no_grad():
        return ConePlan(record_trace(black_box, image))


def windows(*ends):
    return Windows(*(np.array(end) for end in zip(*ends, strict=True)))


def patches(cone):
    return {s.node.target.__name__: next(iter(s.reads.values())) for s in cone.steps if s.reads}


def test_a_3x3_convolution_widens_a_window_by_one_and_reads_one_more():
    cone = build_cone(plan_of(), windows((10, 14, 20, 26)), np.array([0]))
    assert (cone.image.height, cone.image.width) == (4, 6)
    assert patches(cone)["conv2d"].shape == (1, 4 + 4, 6 + 4)


def test_rectangles_have_one_size_and_stay_inside():
    cone = build_cone(
        plan_of(), windows((0, 2, 0, 3), (30, 40, 35, 40), (39, 40, 0, 1)), np.arange(3)
    )
    assert (cone.image.height, cone.image.width) == (10, 5)
    assert cone.image.top.tolist() == [0, 30, 30]
    assert cone.image.left.tolist() == [0, 35, 0]


def test_what_changes_nearly_all_is_made_on_whole_maps():
    cone = build_cone(
        plan_of(nn.Conv2d(4, 4, 31, padding=15)), windows((18, 22, 18, 22)), np.array([0])
    )
    convolutions = [s for s in cone.steps if s.node.target.__name__ == "conv2d"]
    assert [s.rule is not None for s in convolutions] == [True, False]
    assert cone.cost > 0.9 * cone.whole_cost


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_cost_falls_with_the_window(stride):
    plan = plan_of(nn.Conv2d(4, 4, 3, stride=stride), nn.AdaptiveAvgPool2d(1))
    costs = [
        build_cone(plan, windows((5, 5 + side, 7, 7 + side)), np.array([0])).cost
        for side in (2, 8, 30)
    ]
    assert costs == sorted(costs)
    assert costs[0] < 0.2 * build_cone(plan, windows((0, 40, 0, 40)), np.array([0])).whole_cost


def test_a_group_is_counted_by_its_largest_tensor():
    plan = plan_of()
    assert (
        build_cone(plan, windows((0, 4, 0, 4)), np.array([0])).largest == 4 * 40 * 40
    )  # flattened
    assert len(windows((0, 4, 0, 4), (1, 5, 2, 6))) == 2
    assert windows((0, 4, 1, 5)).slices() == [(slice(0, 4), slice(1, 5))]
