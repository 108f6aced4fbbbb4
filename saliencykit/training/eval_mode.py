"""eval_mode: a network that is trained, used for once."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and back into its own.

    Args:
        network: The network.
    """
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)
