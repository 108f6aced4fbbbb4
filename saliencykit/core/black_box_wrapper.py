"""BlackBoxWrapper: a black box that passes everything on to another one."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from typing import Self

    from PIL.Image import Image
    from torch import nn


class BlackBoxWrapper(BlackBox):
    """Another black box, unchanged; a subclass overrides what it changes.

    The optimized copy, and the black box for normalized inputs, are wrapped as well.

    Args:
        black_box: The black box inside.
    """

    def __init__(self, black_box: BlackBox) -> None:
        self.black_box = black_box
        self.output = black_box.output
        self.against, self.target = black_box.against, black_box.target
        self.differentiable = black_box.differentiable
        self.max_batch_size = black_box.max_batch_size
        self.class_names: Sequence[str] | None = black_box.class_names
        self.module = black_box.module
        self.baseline_color, self.pixel_range = black_box.baseline_color, black_box.pixel_range

    def __repr__(self) -> str:
        """That of the black box inside."""
        return repr(self.black_box)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """That of the black box inside."""
        return self.black_box.num_classes

    @property
    def source_module(self) -> "nn.Module | None":
        """That of the black box inside."""
        return self.black_box.source_module

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """That of the black box inside."""
        return self.black_box.device

    def prepare(self, image: "Image") -> tuple[Images, Geometry]:
        """As the black box inside."""
        return self.black_box.prepare(image)

    def around(self, black_box: BlackBox) -> "Self":
        """The same wrapper around another form of the black box inside."""
        twin = copy.copy(self)
        twin.black_box, twin.max_batch_size = black_box, black_box.max_batch_size
        twin.baseline_color = black_box.baseline_color
        twin.module = None if self.module is None else black_box.module
        return twin

    def optimized_for(self, images: Images) -> BlackBox:
        """The wrapper around the optimized copy."""
        return self.around(self.black_box.optimized_for(images))

    def without_preprocessing(self) -> BlackBox:
        """The wrapper around the black box for images that are normalized already."""
        return self.around(self.black_box.without_preprocessing())

    def logits(self, images: Images) -> Logits:
        """As the black box inside."""
        return self.black_box(images)  # not .logits: errors then name the inner black box
