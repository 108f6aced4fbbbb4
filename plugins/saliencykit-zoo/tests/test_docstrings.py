"""The examples in the docstrings run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["fitnet", "cifar10", "imagenet"])
def test_examples_run(name):
    module = importlib.import_module(f"saliencykit_zoo.{name}")
    if name == "cifar10" and not (module.HERE / "cifar10_fitnet.safetensors").exists():
        pytest.skip(
            "cifar10_fitnet.safetensors is not made yet: recipes/cifar10_fitnet.py --export"
        )
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
