"""The examples in the docstrings run."""

import doctest

from saliencykit_onnx import box


def test_examples_run():
    result = doctest.testmod(box)
    assert result.attempted
    assert not result.failed
