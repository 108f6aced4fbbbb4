"""Remembering: a black box that is asked about the whole pictures of a batch once, and frozen once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn


@final
class Remembering(BlackBox):
    """Another black box, which is not asked again what it was asked before.

    Many metrics start from the answer to the whole picture, for every masker anew; here it is asked once per batch. A copy for many
    evaluations is made once per size of picture. Answers are those of the box itself, whatever was remembered.

    Args:
        box: The box.

    Example:
        >>> from saliencykit.testing.boxes import Counting, PlantedEvidence
        >>> counting = Counting(PlantedEvidence())
        >>> box, images = Remembering(counting), torch.rand(3, 3, 16, 16)
        >>> logits = box.remember(images)
        >>> bool((box(images[1:]) == logits[1:]).all()), counting.images
        (True, 3)
    """

    def __init__(self, box: BlackBox) -> None:
        self.box = box
        self.differentiable = box.differentiable
        self.max_batch = box.max_batch
        self.class_names: Sequence[str] | None = box.class_names
        self.module = box.module
        self.zero = box.zero
        self._images: Tensor | None = None
        self._logits: Tensor | None = None
        self._copies: dict[tuple[object, ...], Remembering] = {}

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

    def for_model_pixels(self) -> BlackBox:
        """The box's; it forgets."""
        return self.box.for_model_pixels()

    def for_many(self, images: Images) -> BlackBox:
        """The box's copy, made once per size of picture, which remembers the same answers."""
        key = (*images.shape[1:], images.dtype, images.device)
        if key not in self._copies:
            many = self.box.for_many(images)
            twin = self if many is self.box else Remembering(many)
            twin._copies[key] = twin
            twin._images, twin._logits = self._images, self._logits
            self._copies[key] = twin
        return self._copies[key]

    def remember(self, images: Images, logits: Logits | None = None) -> Logits:
        """Ask about these pictures now, or take the answer that is known, and keep it until the next ones come.

        The images must not be changed afterwards.
        """
        if logits is None:
            with torch.no_grad():
                logits = self.box(images)
        for box in (self, *self._copies.values()):
            box._images, box._logits = images, logits
        return logits

    def logits(self, images: Images) -> Logits:
        """What is remembered of these very tensors or some of their rows; else ask the box."""
        first = None if torch.is_grad_enabled() and images.requires_grad else self._place(images)
        if first is None or self._logits is None:
            return self.box(images)  # and not .logits: what it breaks is then said in its own name
        return self._logits[first : first + len(images)].clone()

    def _place(self, images: Images) -> int | None:
        """The row of the remembered pictures at which these lie in memory."""
        known = self._images
        if known is None or images.shape[1:] != known.shape[1:] or images.dtype != known.dtype or images.device != known.device:
            return None
        if not (images.is_contiguous() and known.is_contiguous()):
            return None
        row, rest = divmod(images.data_ptr() - known.data_ptr(), known[0].numel() * known.element_size())
        return row if not rest and row >= 0 and row + len(images) <= len(known) else None
