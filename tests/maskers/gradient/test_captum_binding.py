"""Captum's own test cases through the binding: its models, options and forms of targets."""

import random

import captum.attr
import numpy as np
import pytest
import torch
from captum.testing.attr.helpers.test_config import config
from captum.testing.helpers.basic_models import BasicModel_ConvNet, BasicModelWithReusedModules
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.gradient.captum_binding import (
    BoundMethod,
    arguments,
    captum_class,
    global_seed,
)
from saliencykit.testing.unchanged import untouched

pytestmark = pytest.mark.filterwarnings("ignore")  # of Captum; and its network ends in a softmax
# random, or needs scikit-learn
RANDOM = ("ShapleyValueSampling", "FeaturePermutation", "Lime", "KernelShap")
CASES = [
    (case, algorithm)
    for case in config
    if isinstance(case["attribute_args"]["inputs"], torch.Tensor)
    and case["attribute_args"]["inputs"].ndim == 4
    for algorithm in case["algorithms"]
    if not algorithm.__name__.startswith("Neuron") and algorithm.__name__ not in RANDOM
    if case["name"]
    != "conv_layer_with_perturbations_per_eval"  # Captum's takes no target per row there
]
PLAIN = [
    getattr(captum.attr, name)
    for name in ("Saliency", "InputXGradient", "IntegratedGradients", "DeepLift", "GuidedBackprop")
]


def convnet():
    """Captum's network with outputs that depend on the image, in float64.

    Its own last layers are ones: the softmax then gives the same for every image, and attributions
    are the rounding of 0. In float64 the rounding of other batches cannot flip a ReLU either.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # with these weights no image has all ReLUs off
        model = BasicModel_ConvNet()
        nn.init.uniform_(model.fc1.weight, 0.5, 1.5)
        nn.init.normal_(model.fc2.weight, std=0.3)
        nn.init.uniform_(model.conv1.bias, 0.5, 1.0)
        nn.init.uniform_(model.conv2.bias, 0.5, 1.0)
    return model.double().eval()


@pytest.mark.parametrize("target", ["one for all", "a tensor of one", "one each"])
@pytest.mark.parametrize(
    ("case", "algorithm"),
    CASES,
    ids=lambda part: part["name"] if isinstance(part, dict) else part.__name__,
)
def test_captums_own_cases_give_captums_results(case, algorithm, target):
    options = {
        key: value
        for key, value in case["attribute_args"].items()
        if key not in ("inputs", "target")
    }
    images = case["attribute_args"]["inputs"].double() / 100  # of 400, a softmax is saturated
    check(algorithm, images, target, options, case.get("layer"))


@pytest.mark.parametrize("target", ["one for all", "a tensor of one", "one each"])
@pytest.mark.parametrize(
    "algorithm", [*PLAIN, captum.attr.Deconvolution, captum.attr.FeatureAblation]
)
def test_other_methods_give_captums_results(algorithm, target):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 1, 10, 10, generator=generator, dtype=torch.float64)
    check(algorithm, images, target, {}, None)


def check(algorithm, images, target, options, layer):
    model, images = convnet(), images.detach().clone()
    labels = torch.tensor([1, 3, 5, 7]) if target == "one each" else torch.full((4,), 1)
    theirs_target = {
        "one for all": 1,
        "a tensor of one": torch.tensor([1]),
        "one each": [1, 3, 5, 7],
    }[target]
    made = algorithm(model, model.get_submodule(layer)) if layer else algorithm(model)
    theirs = made.attribute(images.clone(), target=theirs_target, **options)
    with untouched(algorithm.__name__, model, images=images):
        bound = BoundMethod(algorithm, TorchBlackBox(model), images, layer)
        ours = bound(images, labels, options)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    largest = theirs.detach().abs().amax((1, 2, 3), keepdim=True)
    assert largest.max() > 1e-4, "numbers, and not the rounding of 0"
    # 1e-15 for each of some thousand operations, of numbers up to 1e2 times what is left of them;
    # Captum's Occlusion hands on in float32 what was answered in float64
    close = 1e-10 if theirs.dtype == torch.float64 else 1e-6
    assert ((ours - theirs).abs() <= close * largest).all()


@pytest.mark.parametrize(
    "algorithm",
    [*PLAIN, captum.attr.LayerGradCam, captum.attr.LayerConductance, captum.attr.GuidedGradCam],
)
def test_hooks_are_removed_after_an_exception(algorithm):
    class Fails(nn.Module):
        """Raises in its second call."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == self.fails:
                raise RuntimeError("in the middle of it")
            return x

    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        Fails(),
        nn.Flatten(),
        nn.Linear(144, 3),
    ).eval()
    model[4].fails = 0
    images = torch.rand(2, 1, 10, 10)
    layer = "2" if "layer" in arguments(algorithm) else None
    bound = BoundMethod(algorithm, TorchBlackBox(model), images, layer)
    with untouched(algorithm.__name__, model):
        fails = bound._black_box.module[4]  # in the private copy
        fails.fails = fails.calls + 1
        with pytest.raises(InputError, match="in the middle of it"):
            bound(images, torch.tensor([0, 2]), {})


def test_guided_backprop_handles_a_shared_relu():
    class Grid(BasicModelWithReusedModules):
        def forward(self, inputs):
            return super().forward(inputs.flatten(1))

    model, images = Grid().eval(), torch.rand(2, 3, 1, 1)
    bound = BoundMethod(captum.attr.GuidedBackprop, TorchBlackBox(model), images, None)
    with untouched("GuidedBackprop", model):
        assert bound(images, torch.tensor([0, 1]), {}).shape == images.shape


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: np.random.rand(), random.random])
def test_a_global_seed_repeats_the_numbers_and_restores_every_state(draw):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()

    before, values = states(), []
    for _ in range(2):
        with global_seed(7, torch.device("cpu")):
            values.append(float(draw()))
    assert values[0] == values[1]
    assert states() == before


def test_a_captum_class_by_name_or_a_list_of_similar_ones():
    assert captum_class("DeepLift") is captum.attr.DeepLift
    with pytest.raises(InputError, match=r"no attribution method 'NoSuch'.*Saliency"):
        captum_class("NoSuch")


def test_a_missing_captum_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    with pytest.raises(InputError, match=r"pip install 'saliencykit\[captum\]'"):
        captum_class("Saliency")
