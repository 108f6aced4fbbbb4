"""The examples in the docstrings run."""

import doctest

from saliencykit_onnx import black_box


def test_examples_run():
    result = doctest.testmod(black_box)
    assert result.attempted
    assert not result.failed
