"""The tensors of the library, with shape and range written down.

`B` is the batch (>= 1), `C` the channels, `H` and `W` the sides in pixels, `K` the number of
classes.
"""

from typing import Annotated, TypeAlias

from torch import Tensor

Images: TypeAlias = Annotated[
    Tensor, "(B, C, H, W) float; raw pixels in [0, 1], RGB, never normalised"
]
"""Pictures. In model space (`inputs="normalized"`) the values are what the model takes, in whatever
range that is.
"""

Labels: TypeAlias = Annotated[Tensor, "(B,) int64; class indices in [0, K)"]
"""The classes that are asked about."""

Logits: TypeAlias = Annotated[Tensor, "(B, K) float; softmax(dim=1) is the class distribution"]
"""A classifier's answer. Log-probabilities are logits."""

Mask: TypeAlias = Annotated[Tensor, "(B, 1, H, W) float in [0, 1]; 1 keeps, 0 replaces"]
"""Which pixels stand: `E = X*M + A*(1-M)`."""

PerImage: TypeAlias = Annotated[Tensor, "(B,) float; one value per image"]
"""One number for each picture of a batch."""
