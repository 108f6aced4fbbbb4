"""FitNet4: shapes, the architecture's numbers, and class evidence by position."""

import pytest
import torch
from saliencykit_zoo.fitnet import FitNet4
from torch import nn

SMALL = ((4, 4), (6, 6), (8, 8))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40), (1, 1), (5, 7)])
def test_any_size_gives_one_row_of_logits(size: tuple[int, int]) -> None:
    assert FitNet4(num_classes=7, widths=SMALL).eval()(torch.rand(2, 3, *size)).shape == (2, 7)


def test_it_has_the_layers_of_the_table() -> None:
    net = FitNet4()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32] * 3 + [48] * 2 + [80] * 6 + [128] * 6
    assert {m.kernel_size for m in convolutions} == {(3, 3)}
    assert 1.20e6 < sum(p.numel() for p in net.parameters()) < 1.23e6


def test_the_stages_have_strides_1_2_and_4() -> None:
    net, x, shapes = FitNet4().eval(), torch.rand(1, 3, 32, 32), []
    for stage in net.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(48, 32, 32), (80, 16, 16), (128, 8, 8)]


def test_class_evidence_can_be_read_off_the_heads_rows() -> None:
    net, images = FitNet4(num_classes=5, widths=SMALL).eval(), torch.rand(2, 3, 32, 32)
    maps = torch.einsum("bchw,kc->bkhw", net.forward_features(images), net.head.weight)
    torch.testing.assert_close(maps.mean((2, 3)) + net.head.bias, net(images))
