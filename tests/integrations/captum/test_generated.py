"""Captum's own table of tests, run over our maskers: each row's target alone, hooks, and models of
every kind of input.

The table is that of `captum.testing`: models, inputs, targets in all forms, baselines, further
arguments, NoiseTunnel. The rows for layers and neurons are left out, and those whose method takes a
distribution of baselines. In most of its models the outputs always differ by the same numbers, so
that probabilities never change and the maps of the maskers that compare them are 0, or rounding:
where maps are compared, the models have other weights and all is float64, see `conditioned`.
"""

import copy
import warnings
from functools import partial

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
from captum.testing.helpers.basic_models import BasicModel_ConvNet, BasicModel_MultiLayer
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.integrations.captum import MaskerAttribution

OURS = {
    "gradient": "gradient",
    "occlusion": "occlusion:window=1,stride=1",
    "rise": "rise:samples=30",
    "center-box": "center-box",
}
# on the rows with a convolutional network
OF_LAYERS = {
    "grad-cam": "grad-cam:layer=conv2",
    "ablation-cam": "ablation-cam:layer=conv2",
}  # on the rows with a convolutional network
# of Captum's methods: ours have theirs in the masker's text
OPTIONS = {"sliding_window_shapes", "strides", "n_samples"}
# Masks are scores divided by their largest, or by 1e-5 of the probability where no score is larger:
# in float64 that makes 1e-9 of probabilities of 0.1 with 1e-15 of rounding.
CLOSE = 1e-8


TRACED = (
    "basic_single_target",
    "basic_multi_input_with_perturbations_per_eval_occlusion",
    "conv_with_perturbations_per_eval",
)


def is_for_inputs(kind: type[Attribution]) -> bool:
    return issubclass(kind, PerturbationAttribution | Saliency) and not issubclass(
        kind, FeaturePermutation
    )


ROWS = [
    row
    for row in config
    if "layer" not in row
    and not row.get("baseline_distr")
    and any(map(is_for_inputs, row["algorithms"]))
]


def is_of_pictures(row) -> bool:
    inputs = row["attribute_args"]["inputs"]
    return isinstance(inputs, Tensor) and inputs.ndim == 4


CASES = [
    pytest.param(row, masker, id=f"{row['name']}-{name}")
    for row in ROWS
    for name, masker in (OURS | (OF_LAYERS if is_of_pictures(row) else {})).items()
]


def conditioned(row):
    """The row in float64, with a model whose probabilities depend on its inputs.

    Then no rounding flips a ReLU, and a mask, which is divided by its maximum, is not the rounding
    of 0 divided by the largest of it.
    """
    model = copy.deepcopy(row["model"])
    given = copy.deepcopy(row["attribute_args"])
    for module in model.modules():
        if isinstance(module, BasicModel_MultiLayer):  # inputs are numbers of 1 to 200
            weight = [[0.02, 0.03, 0.01, -0.01], [-0.01, 0.01, -0.03, 0.01]]
            module.linear2.weight.data.copy_(torch.tensor(weight))
        elif isinstance(module, BasicModel_ConvNet):
            given["inputs"] = given["inputs"] / 100  # of 400, its softmax is saturated
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                nn.init.uniform_(module.fc1.weight, 0.5, 1.5)
                nn.init.normal_(module.fc2.weight, std=0.3)
                nn.init.uniform_(module.conv1.bias, 0.5, 1.0)
                nn.init.uniform_(module.conv2.bias, 0.5, 1.0)
    given = {key: value if key == "target" else doubled(value) for key, value in given.items()}
    return row | {"model": model.double(), "attribute_args": given}


def doubled(value):
    if isinstance(value, tuple):
        return tuple(doubled(part) for part in value)
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def arguments_of(row, masker):
    given = {
        key: value
        for key, value in copy.deepcopy(row["attribute_args"]).items()
        if key not in OPTIONS
    }
    if masker.split(":")[0] in ("gradient", "center-box", *OF_LAYERS):
        given.pop("baselines", None)  # they replace nothing, and say so
    return given


def attribution_of(row, masker):
    attribution = MaskerAttribution(copy.deepcopy(row["model"]), masker)
    return NoiseTunnel(attribution) if row.get("noise_tunnel") else attribution


def hooks_of(model):
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks)
        for m in model.modules()
    )


def tuple_of(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def row_of(value, i):
    if isinstance(value, tuple):
        return tuple(row_of(part, i) for part in value)
    return value[i : i + 1] if isinstance(value, Tensor) and value.ndim else value


def test_the_table_has_what_is_to_be_covered():
    kinds = {type(row["attribute_args"].get("target")) for row in ROWS}
    assert {int, list, Tensor, type(None)} <= kinds
    assert any(isinstance(row["attribute_args"]["inputs"], tuple) for row in ROWS)
    assert any(row.get("noise_tunnel") for row in ROWS)
    assert any("baselines" in row["attribute_args"] for row in ROWS)
    assert any("additional_forward_args" in row["attribute_args"] for row in ROWS)
    assert len(CASES) > 80
    maps = [
        attribution_of(row, "gradient").attribute(**arguments_of(row, "gradient")) for row in ROWS
    ]
    # one is a saturated softmax
    assert (
        sum(any(bool(part.any()) for part in tuple_of(answer)) for answer in maps) >= len(ROWS) - 1
    )


@pytest.mark.parametrize("masker", ["gradient", "occlusion:window=1,stride=1", "rise:samples=30"])
def test_there_are_maps_to_compare(masker):
    for row in map(conditioned, ROWS):
        maps = attribution_of(row, masker).attribute(**arguments_of(row, masker))
        assert any(bool(part.any()) for part in tuple_of(maps)), row["name"]


@pytest.mark.parametrize(("row", "masker"), CASES)
def test_shapes_and_hooks(row, masker):
    given = arguments_of(row, masker)
    attribution = attribution_of(row, masker)
    model = attribution.forward_func
    answer = attribution.attribute(**given)
    assert isinstance(answer, tuple) == isinstance(given["inputs"], tuple)
    for ours, inputs in zip(tuple_of(answer), tuple_of(given["inputs"]), strict=True):
        assert ours.shape == inputs.shape
        assert ours.isfinite().all()
    assert hooks_of(model) == 0


@pytest.mark.parametrize(
    ("row", "masker"),
    [
        case
        for case in CASES
        if isinstance(case.values[0]["attribute_args"].get("target"), list | Tensor)
    ],
)
def test_each_rows_target_alone(row, masker):
    row = conditioned(row)
    given = arguments_of(row, masker)
    attribution = attribution_of(row, masker)
    together = tuple_of(attribution.attribute(**given))
    targets = given["target"]
    for i in range(len(together[0])):
        alone = {
            key: row_of(value, i) if key != "target" else value for key, value in given.items()
        }
        for target in (
            (targets[i], targets[i : i + 1]) if len(targets) == len(together[0]) else (targets,)
        ):
            answer = tuple_of(attribution.attribute(**alone | {"target": target}))
            for whole, one in zip(together, answer, strict=True):
                assert torch.allclose(whole[i : i + 1], one, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("masker", [*OURS.values(), *OF_LAYERS.values()])
def test_wrong_targets_are_assertion_errors_and_leave_no_hook(masker):
    row = next(row for row in ROWS if is_of_pictures(row))
    attribution = attribution_of(row, masker)
    given = arguments_of(row, masker)
    for target in ((9999,) * 20, 9999, [0], None):
        with pytest.raises(AssertionError):
            attribution.attribute(**given | {"target": target})
    assert hooks_of(attribution.forward_func) == 0


class Fails(nn.Module):
    def forward(self, *given):
        raise AssertionError("on execution")


@pytest.mark.parametrize("masker", [*OURS.values(), *OF_LAYERS.values()])
def test_models_that_fail_are_assertion_errors_and_keep_no_hook(masker):
    row = next(row for row in ROWS if is_of_pictures(row))
    model = copy.deepcopy(row["model"])
    model.conv2 = Fails()
    with pytest.raises(InputError, match="on execution"):
        MaskerAttribution(model, masker).attribute(**arguments_of(row, masker))
    assert hooks_of(model) == 0


@pytest.mark.parametrize("masker", ["gradient", "occlusion:window=1,stride=1", "rise:samples=30"])
def test_outputs_without_a_target_and_with_several(masker):
    model = next(row["model"] for row in ROWS if row["name"] == "basic_single_target")
    ask = partial(MaskerAttribution(model, masker).attribute, torch.zeros(1, 3))
    with pytest.raises(AssertionError, match="target="):
        ask()
    with pytest.raises(AssertionError, match="more than one output"):
        ask(additional_forward_args=(None, True), target=(1, 0))


@pytest.mark.parametrize("masker", ["gradient", "occlusion:window=1,stride=1", "rise:samples=30"])
@pytest.mark.parametrize("name", TRACED)
def test_traced_models_get_the_same_maps(name, masker):
    row = conditioned(next(row for row in ROWS if row["name"] == name))
    given = arguments_of(row, masker)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is on its way out
        traced = torch.jit.trace(row["model"].eval(), tuple_of(given["inputs"]))
    wanted = attribution_of(row, masker).attribute(**given)
    answer = MaskerAttribution(traced, masker).attribute(**given)
    for ours, theirs in zip(tuple_of(answer), tuple_of(wanted), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=CLOSE)
