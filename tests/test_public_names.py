"""The public names, against a recorded list: changing it is a decision, not an accident."""

import inspect

import pytest

import saliencykit

RECORDED = [
    "Alternative", "BlackBox", "ContractError", "Explanation", "FunctionBlackBox", "Geometry", "GradientError", "InputError", "Loss", "Masker", "MaskerOutput", "Metric", "Objective", "OnSurrogate", "RealTimeMasker", "RegistryError", "SaliencyKitError", "Sample", "SavedExplanations", "Scores", "Surrogate", "Term", "TorchBlackBox", "Trial", "compose", "evaluate", "explain", "explain_dataset", "explain_frames", "fit", "fit_surrogate", "hookimpl", "read_samples", "register", "run_trial",
]  # fmt: skip


def test_the_public_names_are_the_recorded_ones():
    assert sorted(saliencykit.__all__) == RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_each_name_is_there_and_documented(name):
    thing = getattr(saliencykit, name)
    assert name in dir(saliencykit)
    if name != "hookimpl":  # pluggy's
        assert inspect.getdoc(thing)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'saliencykit' has no attribute 'expalin'"):
        _ = saliencykit.expalin


def test_the_version():
    assert saliencykit.__version__.count(".") == 2
    assert "__version__" in dir(saliencykit)
