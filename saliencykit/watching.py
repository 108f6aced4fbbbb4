"""Watched: a black box that reports how often it is asked."""

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn


@final
class Watched(BlackBox):
    """Another black box, with a call for every batch of images that it is asked about: for progress bars, whatever the masker.

    Args:
        box: The box.
        on_ask: Called with the number of images after each answer.

    Example:
        >>> from saliencykit.testing.boxes import PlantedEvidence
        >>> asked = []
        >>> box = Watched(PlantedEvidence(), asked.append)
        >>> _ = box(torch.rand(3, 3, 16, 16))
        >>> sum(asked)
        3
    """

    def __init__(self, box: BlackBox, on_ask: Callable[[int], None]) -> None:
        self.box = box
        self.on_ask = on_ask
        self.differentiable = box.differentiable
        self.max_batch = box.max_batch
        self.class_names = box.class_names
        self.module = box.module
        self.zero = box.zero

    def __repr__(self) -> str:
        """The watched box's own form."""
        return repr(self.box)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The watched box's."""
        return self.box.num_classes

    @property
    def original(self) -> "nn.Module | None":
        """The watched box's."""
        return self.box.original

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The watched box's."""
        return self.box.device

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The watched box's."""
        return self.box.prepare(picture)

    def for_many(self, images: Images) -> BlackBox:
        """The watched box's, watched too."""
        return Watched(self.box.for_many(images), self.on_ask)

    def for_model_pixels(self) -> BlackBox:
        """The watched box's, watched too."""
        return Watched(self.box.for_model_pixels(), self.on_ask)

    def logits(self, images: Images) -> Logits:
        """Ask the watched box, then report."""
        logits = self.box(images)  # and not .logits: what it breaks is then said in its own name
        self.on_ask(len(images))
        return logits
