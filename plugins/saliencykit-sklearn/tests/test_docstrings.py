"""The examples in the docstrings run."""

import doctest

import numpy as np
import pytest
import torch
from saliencykit_sklearn import estimator, sklearn_black_box


@pytest.mark.parametrize("module", [sklearn_black_box, estimator])
def test_examples_run(module):
    result = doctest.testmod(module, extraglobs={"np": np, "torch": torch})
    assert result.attempted
    assert not result.failed
