"""The examples in the docstrings run."""

import doctest

import numpy as np
import pytest
from saliencykit_http import http_black_box, protocol


@pytest.mark.parametrize("module", [http_black_box, protocol])
def test_examples_run(module):
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.attempted
    assert not result.failed
