"""One small classifier, as torch and as ONNX files of several kinds."""

import warnings

import pytest
import torch
from torch import nn

from saliencykit import TorchBlackBox
from saliencykit.testing import small_network

torch.set_num_threads(1)  # small tensors: threads cost more than they bring

MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16


@pytest.fixture(scope="session")
def model():
    """4 classes, any size; normalized pixels in, logits out."""
    return small_network().eval()


@pytest.fixture
def torch_black_box(model):
    return TorchBlackBox(model, mean=MEAN, std=STD, size=SIDE)


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """`export(model, shape, free)` writes a file; `free` are the dynamic axes of the input."""
    made = []

    def write(model, shape=(2, 3, SIDE, SIDE), free=(0,), dtype=torch.float32, outputs=("logits",)):
        path = tmp_path_factory.mktemp("onnx") / "model.onnx"
        axes = {"pixels": {axis: f"axis{axis}" for axis in free}}
        if 0 in free:
            axes |= {name: {0: "axis0"} for name in outputs}
        with warnings.catch_warnings(), torch.no_grad():
            # the exporter that needs no second package calls itself old
            warnings.simplefilter("ignore")
            example = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
            names = {"input_names": ["pixels"], "output_names": list(outputs)}
            torch.onnx.export(
                model.eval(), (example,), path, dynamic_axes=axes, dynamo=False, **names
            )
        made.append(path)
        return path

    return write


@pytest.fixture(scope="session")
def dynamic(export, model):
    return export(model)


@pytest.fixture(scope="session")
def fixed(export, model):
    """A graph that takes exactly three images."""
    return export(model, shape=(3, 3, SIDE, SIDE), free=())


class ChannelsLast(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.permute(0, 3, 1, 2))


@pytest.fixture(scope="session")
def channels_last(export, model):
    return export(ChannelsLast(model), shape=(2, SIDE, SIDE, 3))
