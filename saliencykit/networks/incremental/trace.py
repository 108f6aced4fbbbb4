"""Trace: what a black box computes from an image, as a `torch.fx.Graph`."""

from dataclasses import dataclass
from typing import final

from torch import Tensor, fx


@final
@dataclass(frozen=True)
class BatchMultiple:
    """An integer argument of a recorded call that is `times` the batch size."""

    times: int


@final
class UntraceableError(Exception):
    """Why the logits of a black box cannot be computed from its graph."""


@final
@dataclass(frozen=True, eq=False)
class Trace:
    """What a black box computes from an image.

    Attributes:
        graph: Calls of torch functions; a node's `meta` holds `shape`, of its value for one image
            (None for a tuple of tensors), and `channels_last`, the memory format.
        image: The node of the raw images.
        logits: The node of the logits.
        static: The values of what does not depend on the image: weights, and what is made of them.
    """

    graph: fx.Graph
    image: fx.Node
    logits: fx.Node
    static: dict[fx.Node, Tensor]
