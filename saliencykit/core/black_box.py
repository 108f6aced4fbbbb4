"""BlackBox: a classifier behind one interface."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch

from saliencykit.core import checks
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import OUTPUTS, Output
from saliencykit.core.types import Images, Logits, Target
from saliencykit.core.visible_text import first_line

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn


class BlackBox(ABC):
    """A classifier behind one interface: pixels in, logits out.

    Images arrive raw, at the black box's own size; it normalizes and casts them itself, inside
    `logits`. Log-probabilities are logits, so a service that returns probabilities returns
    `p.log()`, kept finite. Row i of the logits depends on row i of the images alone (no batch
    statistics, no dropout).

    A black box borrows the user's model and gives it back unchanged: weights and buffers,
    `training` and `requires_grad` flags, no `.grad`, no hooks, the global random state untouched.

    Attributes:
        num_classes: K, the number of classes, >= 1.
        output: What a column of the logits means. `softmax`: an exclusive class. `sigmoid`: a label
            on its own, as in multi-label models. `score`: a number without a scale, as of a
            regression or a similarity.
        against: The class that each logit is relative to, `z_c - z_d`, see `Contrast`; None: none.
        target: What of the model's answer the scores are made of, see `explain`; None: its logits.
        differentiable: May callers take d logits / d images? False: query-only.
        max_batch_size: The largest batch for one call of `logits`; `__call__` splits larger ones.
            None: no limit.
        device: Where images must be. Entry points move them there, core never does.
        class_names: One name per class, or None.
        module: The torch module inside, for maskers that read its feature maps or copy it; None if
            there is none.
        source_module: The user's own module, if `module` is an optimized copy; else the same.
        baseline_color: The raw color that normalization maps to 0, one value per channel; None
            without normalization.
        pixel_range: Which values are black and white in raw images of more than 8 bits; None: what
            the file declares, else a guess with a warning.

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
    output: Output = "softmax"
    against: int | None = None
    target: Target | None = None
    differentiable: bool
    max_batch_size: int | None = None
    device: torch.device = torch.device("cpu")
    class_names: Sequence[str] | None = None
    module: "nn.Module | None" = None
    baseline_color: tuple[float, ...] | None = None
    pixel_range: tuple[float, float] | None = None

    @property
    def source_module(self) -> "nn.Module | None":
        """The user's own module: the one that a fingerprint is taken of."""
        return self.module

    def prepare(self, image: "Image") -> tuple[Images, Geometry]:
        """Resize and crop one image as the model expects it.

        Args:
            image: A PIL image of any mode and size.

        Returns:
            Images (1, C, H, W) on the CPU, and the Geometry that maps masks and bounding boxes back
            to the source image.

        Raises:
            InputError: This black box does not know the preprocessing; give it a tensor.
        """
        raise InputError(
            f"{checks.name_of(self)} does not say how to prepare an image; give explain a raw "
            "tensor (B, C, H, W) in [0, 1] of the model's own size, or implement "
            f"{checks.name_of(self)}.prepare(image)."
        )

    def optimized_for(self, images: Images) -> "BlackBox":
        """The same classifier, optimized for many queries with edits of `images`; by default
        itself.

        A torch black box returns a frozen copy in a faster memory layout, with a micro-batch that
        suits the device. The copy lives as long as the caller holds it.

        Args:
            images: (B, C, H, W); the copy is optimized for their size.
        """
        return self

    def without_preprocessing(self) -> "BlackBox":
        """The same classifier for images that are normalized already; by default itself."""
        return self

    @abstractmethod
    def logits(self, images: Images) -> Logits:
        """Classify. If `differentiable`, keep the autograd path to `images`; if not, this runs
        under no_grad.

        Args:
            images: (B, C, H, W) on `device`, B at most `max_batch_size`.

        Returns:
            (B, K), finite, in the dtype of the images.
        """

    @final
    def __call__(self, images: Images) -> Logits:
        """Query the classifier, in batches of at most `max_batch_size`.

        Args:
            images: (B, C, H, W) on `device`, any B >= 1.

        Returns:
            Logits (B, K).

        Raises:
            InputError: The images are not a finite float tensor (B, C, H, W), or the model raised
                on them.
            ContractError: The logits are not a finite float tensor (B, K), or `output` is unknown.
        """
        checks.images(images, checks.name_of(self))
        if self.output not in OUTPUTS:
            raise ContractError(
                f"{checks.name_of(self)}.output is {self.output!r}; it must be one of "
                f"{', '.join(OUTPUTS)}."
            )
        size = self.max_batch_size or len(images)
        if size >= len(images):
            return self._query(images, 0)
        chunks = enumerate(torch.split(images, size))
        return torch.cat([self._query(chunk, i * size) for i, chunk in chunks])

    def _query(self, images: Images, first: int) -> Logits:
        who = f"{checks.name_of(self)}.logits"
        try:
            mode = torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable)
            with checks.no_exit(who), mode:
                logits = self.logits(images)
        except SaliencyKitError:
            raise
        except Exception as error:
            raise InputError(
                f"{who} raised {type(error).__name__} on images of shape {tuple(images.shape)}, "
                f"{images.dtype}: {first_line(error)}."
            ) from error
        checks.logits(logits, len(images), self.num_classes, who, first=first)
        return logits
