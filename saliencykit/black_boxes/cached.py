"""Keeping and Remembering: a black box that is frozen once, and asked about the whole pictures of a
batch once.
"""

from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.types import Images, Logits

_SIZES = 4  # copies of the model that are kept


@final
class CachedCopies(BlackBoxWrapper):
    """Another black box, whose copy for many evaluations is made once per size of picture and not
    for every batch.

    The copies of the last few sizes are kept.

    Args:
        black_box: The box.
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__(black_box)
        self._copies: dict[tuple[object, ...], BlackBox] = {}

    def optimized_for(self, images: Images) -> BlackBox:
        """The box's."""
        key = (*images.shape[1:], images.dtype, images.device)
        if key not in self._copies:
            while len(self._copies) >= _SIZES:
                self._copies.pop(next(iter(self._copies)))
            self._copies[key] = self.black_box.optimized_for(images)
        return self._copies[key]


@final
class CachedLogits(BlackBoxWrapper):
    """Another black box, which is not asked again what it was asked before; for metrics.

    Many metrics start from the answer to the whole picture, for every masker anew; here it is asked
    once per batch. Not for maskers, which may watch the model while it answers.

    Args:
        black_box: The box.

    Example:
        >>> from saliencykit.testing.black_boxes import Counting, PlantedEvidence
        >>> counting = Counting(PlantedEvidence())
        >>> black_box, images = CachedLogits(counting), torch.rand(3, 3, 16, 16)
        >>> logits = black_box.remember(images)
        >>> bool((black_box(images[1:]) == logits[1:]).all()), counting.num_images
        (True, 3)
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__(black_box)
        self._images: Tensor | None = None
        self._logits: Tensor | None = None

    def optimized_for(self, images: Images) -> BlackBox:
        """The box's copy, which remembers the same answers."""
        twin = CachedLogits(self.black_box.optimized_for(images))
        twin._images, twin._logits = self._images, self._logits
        return twin

    def remember(self, images: Images, logits: Logits | None = None) -> Logits:
        """Ask about these pictures now, or take the answer that is known, and keep it until the
        next ones come.

        The images must not be changed afterwards.
        """
        if logits is None:
            with torch.no_grad():
                logits = self.black_box(images)
        self._images, self._logits = images, logits
        return logits

    def logits(self, images: Images) -> Logits:
        """What is remembered of these very tensors or some of their rows; else ask the box."""
        first = None if torch.is_grad_enabled() and images.requires_grad else self._place(images)
        if first is None or self._logits is None:
            return self.black_box(images)
        return self._logits[first : first + len(images)].clone()

    def _place(self, images: Images) -> int | None:
        """The row of the remembered pictures at which these lie in memory."""
        known = self._images
        if (
            known is None
            or images.shape[1:] != known.shape[1:]
            or images.dtype != known.dtype
            or images.device != known.device
        ):
            return None
        if not (images.is_contiguous() and known.is_contiguous()):
            return None
        row, rest = divmod(
            images.data_ptr() - known.data_ptr(), known[0].numel() * known.element_size()
        )
        return row if not rest and row >= 0 and row + len(images) <= len(known) else None
