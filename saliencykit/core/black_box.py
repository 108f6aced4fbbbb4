"""BlackBox: a classifier seen from outside."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch

from saliencykit.core import checks
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn


class BlackBox(ABC):
    """A classifier seen from outside: pixels in, logits out.

    Pixels arrive raw at the box's own size; normalising and casting are the box's own business,
    inside `logits`. Log-probabilities are logits, so a service that answers with probabilities
    returns `p.log()`, kept finite. Row i of the answer depends on row i of the images alone (no
    batch statistics, no dropout).

    A box borrows the user's model and gives it back as it was: same weights and buffers, same
    `training` and `requires_grad` flags, no `.grad`, no hooks, the global random state untouched.

    Attributes:
        num_classes: K, the number of classes, >= 1.
        differentiable: May callers take d logits / d images? False: query-only.
        max_batch: The largest batch that one call of `logits` gets; `__call__` splits larger ones.
            None: no limit.
        device: Where images must be. The doors move them, core never does.
        class_names: One name per class, or None.
        module: The torch module inside, for maskers that read its feature maps or take a copy; None
            where there is none.
        source_module: The user's own module, where `module` is a frozen copy of it; else the same.
        baseline_color: The raw colour that the box's normalisation maps to 0, one value per channel; None if
            it does not normalise.

    Example:
        >>> class Brightness(BlackBox):
        ...     num_classes, differentiable = 2, True
        ...     def logits(self, images):
        ...         light = images.mean((1, 2, 3))
        ...         return torch.stack([light, 1 - light], dim=1)
        >>> Brightness()(torch.zeros(1, 3, 4, 4)).tolist()
        [[0.0, 1.0]]
    """

    num_classes: int
    differentiable: bool
    max_batch: int | None = None
    device: torch.device = torch.device("cpu")
    class_names: Sequence[str] | None = None
    module: "nn.Module | None" = None
    baseline_color: tuple[float, ...] | None = None

    @property
    def source_module(self) -> "nn.Module | None":
        """See the attribute: what a fingerprint is taken of."""
        return self.module

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """Resize and crop one picture as the model wants it.

        Args:
            picture: A PIL picture, any mode and size.

        Returns:
            Images (1, C, H, W) on the CPU, and the Geometry that maps masks and boxes back to the
            picture.

        Raises:
            InputError: This box does not know what its model wants; give it a tensor.
        """
        raise InputError(
            f"{checks.name_of(self)} does not say how to prepare a picture; give explain a raw "
            "tensor (B, C, H, W) in [0, 1] of the model's own size, or implement "
            f"{checks.name_of(self)}.prepare(picture)."
        )

    def optimized_for(self, images: Images) -> "BlackBox":
        """The same classifier, made ready for many evaluations of edits of `images`; by default the
        box itself.

        A torch box answers with a frozen copy in a faster memory layout, with the micro-batch that
        suits the device. The copy lives as long as the caller holds it.

        Args:
            images: (B, C, H, W) as the box takes them; a copy is made ready for their size.
        """
        return self

    def without_preprocessing(self) -> "BlackBox":
        """The same classifier without its own normalising: images are what the model itself takes;
        by default the box itself.
        """
        return self

    @abstractmethod
    def logits(self, images: Images) -> Logits:
        """Classify. If `differentiable`, keep the autograd path to `images`; else it runs under
        no_grad.

        Args:
            images: (B, C, H, W) on `device`, B at most `max_batch`.

        Returns:
            (B, K), finite, in the images' dtype.
        """

    @final
    def __call__(self, images: Images) -> Logits:
        """Ask the classifier, in batches of at most `max_batch`.

        Args:
            images: (B, C, H, W) on `device`, any B >= 1.

        Returns:
            Logits (B, K).

        Raises:
            InputError: The images are not a finite float tensor (B, C, H, W), or the model raised
                on them.
            ContractError: The answer is not a finite float tensor (B, K).
        """
        checks.images(images, checks.name_of(self))
        size = self.max_batch or len(images)
        if size >= len(images):
            return self._ask(images, 0)
        return torch.cat(
            [self._ask(chunk, i * size) for i, chunk in enumerate(torch.split(images, size))]
        )

    def _ask(self, images: Images, first: int) -> Logits:
        who = f"{checks.name_of(self)}.logits"
        try:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
                answer = self.logits(images)
        except SaliencyKitError:
            raise
        except Exception as error:
            given = f"images of shape {tuple(images.shape)}, {images.dtype}"
            raise InputError(
                f"{who} raised {type(error).__name__} on {given}: {checks.first_line(error)}."
            ) from error
        checks.logits(answer, len(images), self.num_classes, who, first=first)
        return answer
