import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox

pytest.importorskip("onnxruntime")


def test_it_answers_like_the_network():
    from benchmarks.onnx_black_box import OnnxBox

    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    black_box = TorchBlackBox(net.eval(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), size=16)
    quick = OnnxBox(black_box)
    images = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(quick(images), black_box(images), atol=1e-5)
    assert (quick.num_classes, quick.differentiable) == (5, False)
