"""Whatever a user calls a model."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.model_wrapping import wrap_model
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_black_box


class Normalizing(nn.Module):
    """A home-made module around a torchvision model, which normalizes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = models.squeezenet1_1()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner((x - 0.45) / 0.225)


def test_a_torchvision_model_brings_its_statistics_and_a_home_made_one_does_not() -> None:
    assert wrap_model(models.squeezenet1_1()).mean == (0.485, 0.456, 0.406)
    assert wrap_model(Normalizing()).mean is None
    assert wrap_model(nn.Sequential(nn.BatchNorm2d(3), models.squeezenet1_1())).mean is None
    given = TorchBlackBox(models.squeezenet1_1(), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert as_black_box(given) is given


def test_a_timm_model_brings_its_statistics() -> None:
    timm = pytest.importorskip("timm")
    black_box = wrap_model(timm.create_model("test_resnet"))
    assert black_box.size == (160, 160)
    assert black_box.mean is not None


def test_wrappers_keep_the_statistics_and_run_themselves() -> None:
    inner = models.squeezenet1_1().eval()
    for outer in (torch.compile(inner, backend="eager"), nn.DataParallel(inner)):
        black_box = wrap_model(outer)
        assert black_box.model is outer
        assert black_box.mean == (0.485, 0.456, 0.406)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(wrap_model(nn.DataParallel(inner))(x), wrap_model(inner)(x))


def test_functions_and_callable_objects() -> None:
    class Service:
        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 4), 0.25)

    for function in (lambda p: np.full((len(p), 4), 0.25), Service(), Service().__call__):
        black_box = wrap_model(function)
        assert isinstance(black_box, FunctionBlackBox)
        assert black_box(torch.rand(2, 3, 4, 4)).shape == (2, 4)


def test_what_is_no_model() -> None:
    assert wrap_model(3) is None
    assert wrap_model(None) is None
    with pytest.raises(InputError, match=r"Normalizing is a class; pass an instance"):
        wrap_model(Normalizing)
    with pytest.raises(InputError, match="int is not a classifier"):
        as_black_box(3)
