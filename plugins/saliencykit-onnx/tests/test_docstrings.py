"""The examples in the docstrings run."""

import doctest

from saliencykit_onnx import onnx_black_box


def test_examples_run():
    result = doctest.testmod(onnx_black_box)
    assert result.attempted
    assert not result.failed
