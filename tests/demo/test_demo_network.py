"""DemoNet: the embedded default's network."""

import pytest
import torch

from saliencykit.demo.demo_network import DemoNet, ResidualBlock


@pytest.mark.parametrize("size", [(64, 64), (56, 48), (33, 47), (5, 7)])
def test_any_size_gives_one_row_of_logits(size: tuple[int, int]) -> None:
    net = DemoNet(num_classes=7, widths=(4, 8, 8, 16)).eval()
    assert net(torch.rand(2, 3, *size)).shape == (2, 7)


def test_class_evidence_can_be_read_off_the_heads_rows() -> None:
    net = DemoNet(num_classes=5, widths=(4, 8, 8, 16)).eval()
    images = torch.rand(2, 3, 64, 64)
    maps = torch.einsum("bchw,kc->bkhw", net.forward_features(images), net.head.weight)
    torch.testing.assert_close(maps.mean((2, 3)) + net.head.bias, net(images))


def test_a_strided_block_halves_and_a_plain_one_keeps() -> None:
    x = torch.rand(1, 4, 9, 9)
    assert ResidualBlock(4, 6, 2).eval()(x).shape == (1, 6, 5, 5)
    assert ResidualBlock(4, 4, 1).eval()(x).shape == x.shape
