"""Around: a black box that passes everything on to another one."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn


class Around(BlackBox):
    """Another black box, as it is; what is built on it says what its copies for many evaluations
    are.

    Args:
        box: The box.
    """

    def __init__(self, box: BlackBox) -> None:
        self.box = box
        self.differentiable = box.differentiable
        self.max_batch = box.max_batch
        self.class_names: Sequence[str] | None = box.class_names
        self.module = box.module
        self.zero = box.zero

    def __repr__(self) -> str:
        """The box's own form."""
        return repr(self.box)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The box's."""
        return self.box.num_classes

    @property
    def original(self) -> "nn.Module | None":
        """The box's."""
        return self.box.original

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The box's."""
        return self.box.device

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The box's."""
        return self.box.prepare(picture)

    @abstractmethod
    def for_many(self, images: Images) -> BlackBox:
        """What stands around the box's copy."""

    def for_model_pixels(self) -> BlackBox:
        """The box's."""
        return self.box.for_model_pixels()

    def logits(self, images: Images) -> Logits:
        """The box's."""
        return self.box(images)  # and not .logits: what it breaks is then said in its own name
