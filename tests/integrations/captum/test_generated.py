"""Captum's own table of tests (`captum.testing`), run over maskers.

The rows are those of methods that attribute to inputs; rows for layers and neurons, and those whose
method takes a distribution of baselines, are left out. Two of the rows are about images, see
`IMAGE_ROWS`: there every form of target, NoiseTunnel, tracing and failing models are run. The
inputs of all other rows are vectors or tuples, which are refused.
"""

import copy
import warnings

import pytest
import torch
from captum.attr import (
    Attribution,
    FeaturePermutation,
    NoiseTunnel,
    PerturbationAttribution,
    Saliency,
)
from captum.testing.attr.helpers.test_config import config
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.integrations.captum import MaskerAttribution

MASKERS = {
    "gradient": "gradient",
    "occlusion": "occlusion:window=1,stride=1",
    "rise": "rise:samples=30",
    "center-box": "center-box",
    "grad-cam": "grad-cam:layer=conv2",
    "ablation-cam": "ablation-cam:layer=conv2",
}
IMAGE_ROWS = ["conv_with_perturbations_per_eval", "conv_occlusion_with_perturbations_per_eval"]
# options of Captum's methods; a masker has its own in its text
OPTIONS = {"sliding_window_shapes", "strides", "n_samples"}
# Masks are scores divided by their largest, or by 1e-5 of the probability where no score is larger:
# in float64 that makes 1e-9 of probabilities of 0.1 with 1e-15 of rounding.
CLOSE = 1e-8


def is_for_inputs(kind: type[Attribution]) -> bool:
    return issubclass(kind, PerturbationAttribution | Saliency) and not issubclass(
        kind, FeaturePermutation
    )


ROWS = {
    row["name"]: row
    for row in config
    if "layer" not in row
    and not row.get("baseline_distr")
    and any(map(is_for_inputs, row["algorithms"]))
}
TARGETS = {
    "index": 1,
    "list": [1, 0, 9, 4],
    "tensor": torch.tensor([1, 0, 9, 4]),
    "one-element tensor": torch.tensor([3]),
}


def arguments_of(name):
    given = copy.deepcopy(ROWS[name]["attribute_args"])
    return {key: value for key, value in given.items() if key not in OPTIONS}


@pytest.fixture(params=IMAGE_ROWS)
def image_row(request):
    """Model and arguments, in float64, with a model whose probabilities depend on its inputs.

    Then no rounding flips a ReLU, and a mask, which is divided by its maximum, is not the rounding
    of 0 divided by the largest of it.
    """
    model, given = copy.deepcopy(ROWS[request.param]["model"]), arguments_of(request.param)
    given["inputs"] = given["inputs"].double() / 100  # of 400, its softmax is saturated
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn.init.uniform_(model.fc1.weight, 0.5, 1.5)
        nn.init.normal_(model.fc2.weight, std=0.3)
        nn.init.uniform_(model.conv1.bias, 0.5, 1.0)
        nn.init.uniform_(model.conv2.bias, 0.5, 1.0)
    return model.double(), given


@pytest.fixture(params=MASKERS.values(), ids=MASKERS)
def masker(request):
    return request.param


def hooks_of(model):
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks)
        for m in model.modules()
    )


def test_the_rows_about_images_are_these():
    def is_of_images(row):
        inputs = row["attribute_args"]["inputs"]
        return isinstance(inputs, Tensor) and inputs.ndim == 4

    assert [name for name, row in ROWS.items() if is_of_images(row)] == IMAGE_ROWS
    assert len(ROWS) > 15


@pytest.mark.parametrize("name", sorted(set(ROWS) - set(IMAGE_ROWS)))
def test_rows_of_vectors_and_of_several_inputs_are_refused(name):
    attribution = MaskerAttribution(copy.deepcopy(ROWS[name]["model"]), "rise:samples=30")
    if ROWS[name].get("noise_tunnel"):
        attribution = NoiseTunnel(attribution)
    with pytest.raises(InputError, match=r"explains images: .* for vectors, .* use Captum's own"):
        attribution.attribute(**arguments_of(name))


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(target, id=name, marks=[pytest.mark.slow] * (name not in ("index", "tensor")))
        for name, target in TARGETS.items()
    ],
)
def test_each_rows_target_alone_gives_the_row_of_the_batch(image_row, masker, target):
    model, given = image_row
    attribution = MaskerAttribution(model, masker, probabilities=True)
    together = attribution.attribute(**given | {"target": target})
    assert together.shape == given["inputs"].shape
    assert together.isfinite().all()
    assert together.any() or "cam" in masker, "there is something to compare"
    assert hooks_of(model) == 0
    targets = [target] * 4 if isinstance(target, int) or len(target) == 1 else target
    for i, own in enumerate(targets):
        for form in (own, int(own), [int(own)])[: 3 if i == 0 else 1]:
            alone = {"inputs": given["inputs"][i : i + 1], "target": form}
            one = attribution.attribute(**given | alone)
            assert torch.allclose(together[i : i + 1], one, rtol=0, atol=CLOSE)


def test_noise_tunnel_without_noise_gives_the_same_map(image_row, masker):
    model, given = image_row
    attribution = MaskerAttribution(model, masker, probabilities=True)
    still = NoiseTunnel(attribution).attribute(**given, nt_samples=2, stdevs=0.0)
    assert torch.allclose(still, attribution.attribute(**given), rtol=0, atol=CLOSE)


def test_wrong_targets_are_assertion_errors_and_leave_no_hook(image_row, masker):
    model, given = image_row
    attribution = MaskerAttribution(model, masker, probabilities=True)
    for target in ((9999,) * 20, 9999, [0], None, (1, 0)):
        with pytest.raises(AssertionError):
            attribution.attribute(**given | {"target": target})
    assert hooks_of(model) == 0


class Fails(nn.Module):
    def forward(self, *given):
        raise AssertionError("on execution")


def test_models_that_fail_are_assertion_errors_and_keep_no_hook(image_row, masker):
    model, given = image_row
    model.conv2 = Fails()
    with pytest.raises(InputError, match="on execution"):
        MaskerAttribution(model, masker, probabilities=True).attribute(**given)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("masker", ["gradient", "occlusion:window=1,stride=1", "rise:samples=30"])
def test_traced_models_get_the_same_maps(image_row, masker):
    model, given = image_row
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated
        traced = torch.jit.trace(model.eval(), given["inputs"])
    expected = MaskerAttribution(model, masker, probabilities=True).attribute(**given)
    answer = MaskerAttribution(traced, masker, probabilities=True).attribute(**given)
    assert torch.allclose(answer, expected, rtol=0, atol=CLOSE)
