"""Watched: a black box that reports how often it is asked."""

from collections.abc import Callable
from typing import final

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.types import Images, Logits


@final
class CountingBlackBox(BlackBoxWrapper):
    """Another black box, with a call for every batch of images that it is asked about: for progress
    bars, whatever the masker.

    Args:
        black_box: The box.
        on_ask: Called with the number of images after each answer.

    Example:
        >>> import torch
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> asked = []
        >>> black_box = CountingBlackBox(PlantedEvidence(), asked.append)
        >>> _ = black_box(torch.rand(3, 3, 16, 16))
        >>> sum(asked)
        3
    """

    def __init__(self, black_box: BlackBox, on_ask: Callable[[int], None]) -> None:
        super().__init__(black_box)
        self.on_ask = on_ask
        self.stands_for = black_box  # messages name the box that the user gave

    def optimized_for(self, images: Images) -> BlackBox:
        """The watched box's, watched too."""
        return CountingBlackBox(self.black_box.optimized_for(images), self.on_ask)

    def without_preprocessing(self) -> BlackBox:
        """The watched box's, watched too."""
        return CountingBlackBox(self.black_box.without_preprocessing(), self.on_ask)

    def logits(self, images: Images) -> Logits:
        """Ask the watched box, then report."""
        logits = self.black_box(
            images
        )  # and not .logits: what it breaks is then said in its own name
        self.on_ask(len(images))
        return logits
