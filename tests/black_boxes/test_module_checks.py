"""What a module must have before it is called: values, and gradients for maskers that need them."""

import re
import warnings

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx

from saliencykit import TorchBlackBox, explain
from saliencykit.black_boxes.module_checks import is_quantized
from saliencykit.core.errors import GradientError, InputError, SaliencyKitError
from saliencykit.networks.model_fingerprint import fingerprint
from tests.model_kinds import Net, _dynamic_int8, _lazy, _meta, _static_int8, image


def _traced_int8() -> nn.Module:
    """Of `torch.ao.quantization.quantize_fx`."""
    mapping = quantization.get_default_qconfig_mapping("fbgemm")
    prepared = quantize_fx.prepare_fx(Net().eval(), mapping, image())
    prepared(image())
    return quantize_fx.convert_fx(prepared)


# static quantization takes seconds to build
INT8 = [
    _dynamic_int8,
    pytest.param(_static_int8, marks=pytest.mark.slow),
    pytest.param(_traced_int8, marks=pytest.mark.slow),
]


def test_a_lazy_module_is_not_given_its_shapes_by_an_explanation() -> None:
    model = _lazy()
    for masker in ("rise:samples=4", "grad-cam"):
        with pytest.raises(InputError, match=r"run the model once.*model\(images\)"):
            explain(model, image(), masker=masker)
    with pytest.raises(InputError, match="run the model once"):
        TorchBlackBox(model).optimized_for(image())
    assert isinstance(model[0], nn.LazyConv2d)
    model(image())
    assert explain(model, image(), 1, masker="gradient").mask.shape == (1, 1, 32, 32)


def test_weights_on_meta_have_no_values() -> None:
    model = _meta()
    with pytest.raises(InputError, match=r"load_state_dict\(weights, assign=True\)"):
        explain(model, image())
    model.load_state_dict(Net().state_dict(), assign=True)
    explain(model, image(), masker="gradient")


@pytest.mark.parametrize("build", INT8)
def test_a_quantized_model_is_query_only(build) -> None:
    model = build()
    assert is_quantized(model)
    assert not TorchBlackBox(model).differentiable
    with pytest.raises(GradientError, match="query-only"):
        explain(model, image(), masker="gradient")
    answer = explain(model, image(), 2)
    assert "Rise" in answer.provenance["masker"]


@pytest.mark.parametrize("build", INT8)
def test_a_fingerprint_sees_the_weights_of_a_quantized_model(build) -> None:
    first, second, other = (TorchBlackBox(build()) for _ in range(3))
    assert fingerprint(first) == fingerprint(second)
    for module in other.model.modules():
        if isinstance(module, torch.ao.nn.quantized.Linear):
            weight, bias = module.weight(), module.bias()
            flipped = torch.quantize_per_tensor(weight.dequantize() * -1, 0.5, 0, torch.qint8)
            module.set_weight_bias(flipped, bias)
    assert fingerprint(first) != fingerprint(other)


@pytest.mark.parametrize("build", INT8)
@pytest.mark.parametrize("masker", ["cam", "grad-cam", "score-cam", "ablation-cam", "eigen-cam"])
def test_what_a_refusal_for_a_quantized_model_names_works(build, masker: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            explain(build(), image(), 2, masker=masker, verify=False)
        except SaliencyKitError as error:
            named = re.findall(r"masker='([\w-]+)'", str(error))
            explain(build(), image(), 2, masker=named[0], verify=False)


def test_an_ordinary_model_is_not_quantized() -> None:
    assert TorchBlackBox(Net()).differentiable
    assert not is_quantized(Net())


def test_quantization_aware_training_has_gradients() -> None:
    net = Net().train()
    net.features = torch.ao.quantization.fuse_modules_qat(net.features, [["0", "1"]])
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    prepared = torch.ao.quantization.prepare_qat(net)
    prepared(image())
    assert not is_quantized(prepared)
    assert explain(prepared, image(), 2, masker="gradient").mask.max() == 1


def test_a_missing_input_and_a_volume_are_recognized() -> None:
    class Two(nn.Module):
        def forward(self, x, y):
            return x

    with pytest.raises(InputError, match=r"TorchBlackBox\(model, forward_args=\(\.\.\.\)\)"):
        explain(Two(), torch.rand(1, 3, 8, 8))

    class ByKeyword(nn.Module):
        def forward(self, *, pixel_values):
            return pixel_values

    class OneByOne(Net):
        def forward(self, x):
            assert len(x) == 1
            return super().forward(x)

    class Leaving(nn.Module):
        def forward(self, x):
            raise SystemExit(3)

    for model, words in (
        (ByKeyword(), r"forward\(self, images\)"),
        (OneByOne(), r"write TorchBlackBox\(model, max_batch_size=1\)"),
        (Leaving(), "raised SystemExit"),
    ):
        with pytest.raises(SaliencyKitError, match=words):
            explain(model, torch.rand(1, 3, 32, 32), masker="occlusion")
