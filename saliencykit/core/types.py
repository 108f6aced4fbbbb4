"""The tensors of the library, with shape and range.

`B` is the batch (>= 1), `C` the channels, `H` and `W` the sides in pixels, `K` the number of
classes.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from torch import Tensor

Images: TypeAlias = Annotated[
    Tensor, "(B, C, H, W) float; raw pixels in [0, 1], RGB, never normalized"
]
"""Images. With `inputs="normalized"` the values are what the model itself takes, in any range."""

Labels: TypeAlias = Annotated[Tensor, "(B,) int64; class indices in [0, K)"]
"""The classes to explain."""

Logits: TypeAlias = Annotated[Tensor, "(B, K) float; softmax(dim=1) is the class distribution"]
"""The output of a classifier. Log-probabilities are logits."""

Mask: TypeAlias = Annotated[Tensor, "(B, 1, H, W) float in [0, 1]; 1 keeps, 0 replaces"]
"""Which pixels to keep: `E = X*M + A*(1-M)`."""

PerImage: TypeAlias = Annotated[Tensor, "(B,) float; one value per image"]
"""One number for each image of a batch."""

Target: TypeAlias = Annotated[
    Callable[[Any], Tensor], "what a model returns for B images -> scores, (B,) or (B, K)"
]
"""What of a model's answer is explained, where that is not a class."""
