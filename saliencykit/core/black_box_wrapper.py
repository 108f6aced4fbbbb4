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


class BlackBoxWrapper(BlackBox):
    """Another black box, as it is; what is built on it says what its copies for many evaluations
    are.

    Args:
        black_box: The box.
    """

    def __init__(self, black_box: BlackBox) -> None:
        self.black_box = black_box
        self.differentiable = black_box.differentiable
        self.max_batch = black_box.max_batch
        self.class_names: Sequence[str] | None = black_box.class_names
        self.module = black_box.module
        self.baseline_color = black_box.baseline_color

    def __repr__(self) -> str:
        """The box's own form."""
        return repr(self.black_box)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The box's."""
        return self.black_box.num_classes

    @property
    def source_module(self) -> "nn.Module | None":
        """The box's."""
        return self.black_box.source_module

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The box's."""
        return self.black_box.device

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The box's."""
        return self.black_box.prepare(picture)

    @abstractmethod
    def optimized_for(self, images: Images) -> BlackBox:
        """What stands around the box's copy."""

    def without_preprocessing(self) -> BlackBox:
        """The box's."""
        return self.black_box.without_preprocessing()

    def logits(self, images: Images) -> Logits:
        """The box's."""
        return self.black_box(
            images
        )  # and not .logits: what it breaks is then said in its own name
