"""Black boxes that reuse their optimized copies, and the logits of whole images."""

from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.types import Images, Logits

_MAX_COPIES = 4


@final
class CachedCopies(BlackBoxWrapper):
    """A black box whose optimized copy is made once per image size, and not for every batch.

    The copies for the last few sizes are kept.

    Args:
        black_box: The black box inside.
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__(black_box)
        self._copies: dict[tuple[object, ...], BlackBox] = {}

    def around(self, black_box: BlackBox) -> "CachedCopies":
        """With copies of its own."""
        return CachedCopies(black_box)

    def optimized_for(self, images: Images) -> BlackBox:
        """The cached copy of the black box inside."""
        key = (*images.shape[1:], images.dtype, images.device)
        if key not in self._copies:
            while len(self._copies) >= _MAX_COPIES:
                self._copies.pop(next(iter(self._copies)))
            self._copies[key] = self.black_box.optimized_for(images)
        return self._copies[key]


@final
class CachedLogits(BlackBoxWrapper):
    """A black box that is not queried twice with the images of the current batch; for metrics.

    Many metrics start from the logits of the whole image, for every masker again; here they are
    computed once per batch. Not for maskers, which may read the model's layers during the query.

    Args:
        black_box: The black box inside.

    Example:
        >>> from saliencykit.testing import Counting, PlantedEvidence
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

    def without_preprocessing(self) -> BlackBox:
        """As the black box inside; the logits of its own images are others."""
        return self.black_box.without_preprocessing()

    def remember(self, images: Images, logits: Logits | None = None) -> Logits:
        """Cache the logits of these images until the next call; compute them if not given.

        The images must not be changed afterwards.
        """
        if logits is None:
            with torch.no_grad():
                logits = self.black_box(images)
        self._images, self._logits = images, logits
        return logits

    def logits(self, images: Images) -> Logits:
        """The cached logits of these very tensors or some of their rows; else a query."""
        first = None if torch.is_grad_enabled() and images.requires_grad else self._row_of(images)
        if first is None or self._logits is None:
            return self.black_box(images)
        return self._logits[first : first + len(images)].clone()

    def _row_of(self, images: Images) -> int | None:
        """The row of the cached images where these begin in memory; None if they are others."""
        known = self._images
        if known is None or not (images.is_contiguous() and known.is_contiguous()):
            return None
        if (images.shape[1:], images.dtype, images.device) != (
            known.shape[1:],
            known.dtype,
            known.device,
        ):
            return None
        row_bytes = known[0].numel() * known.element_size()
        row, remainder = divmod(images.data_ptr() - known.data_ptr(), row_bytes)
        inside = row >= 0 and row + len(images) <= len(known)
        return row if not remainder and inside else None
