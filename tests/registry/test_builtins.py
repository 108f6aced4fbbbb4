import inspect

import pytest

from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.registry import builtins
from saliencykit.registry.manager import KINDS

PROVIDERS = {
    kind: getattr(builtins, f"provide_{'black_boxes' if kind == 'black_box' else f'{kind}s'}")
    for kind in KINDS
}


@pytest.mark.parametrize("kind", KINDS)
def test_factories_make_what_they_are_registered_as(kind):
    for name, factory in PROVIDERS[kind]().items():
        assert name == name.lower()
        assert inspect.isclass(factory) is False or issubclass(factory, KINDS[kind])
        assert inspect.getdoc(factory)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("black_box", {"demo", "timm", "torchvision"}),
        ("alternative", {"blur", "noise", "constant", "choice", "crop"}),
        (
            "term",
            {
                "smoothness", "area", "power-area", "preserved-log-probability", "preserved-margin",
                "destroyed-probability",
                "destroyed-margin",
            },
        ),
        ("masker", {"iterative", "meaningful-perturbation", "rise", "occlusion", "center-box",
            "whole-image"}),
        ("metric", {"saliency-score"}),
    ],
)  # fmt: skip
def test_documented_names_are_registered(kind, names):
    assert names <= set(PROVIDERS[kind]())


@pytest.mark.parametrize("kind", ["alternative", "term", "masker", "metric"])
def test_everything_has_defaults_and_prints_as_its_configuration(kind):
    for name, factory in PROVIDERS[kind]().items():
        if name in ("on-surrogate", "stored"):
            continue  # there is no surrogate of everybody's box, and no run of everybody's images
        thing = factory()
        assert repr(thing).startswith(type(thing).__name__ + "(")
        # networks are equal if they are the same
        assert isinstance(factory, TrainedMaskerFactory) or thing == factory()


def test_wrap_model_returns_none_for_other_objects():
    assert builtins.wrap_model(object()) is None
