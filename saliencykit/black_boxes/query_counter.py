"""CountingBlackBox: a black box that reports every query."""

from collections.abc import Callable
from typing import final

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.types import Images, Logits


@final
class CountingBlackBox(BlackBoxWrapper):
    """Reports every query of another black box: progress, whatever the masker.

    Args:
        black_box: The black box.
        on_query: Called with the number of images after each query.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> counts = []
        >>> black_box = CountingBlackBox(PlantedEvidence(), counts.append)
        >>> _ = black_box(torch.rand(3, 3, 16, 16))
        >>> sum(counts)
        3
    """

    def __init__(self, black_box: BlackBox, on_query: Callable[[int], None]) -> None:
        super().__init__(black_box)
        self.on_query = on_query
        self.stands_for = black_box  # messages name the black box that the user gave

    def logits(self, images: Images) -> Logits:
        """Query the black box, then report."""
        # called, so that a broken contract is reported in its own name
        logits = self.black_box(images)
        self.on_query(len(images))
        return logits
