from typing import get_args

import pytest
from torch import Tensor

from saliencykit.core import types


@pytest.mark.parametrize("name", ["Images", "Labels", "Logits", "Mask", "PerImage"])
def test_each_alias_is_a_tensor_with_its_shape_in_words(name):
    tensor, words = get_args(getattr(types, name))
    assert tensor is Tensor
    assert words.startswith("(B")
