"""Masker: finds the mask."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core import checks, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import GradientError
from saliencykit.core.types import Images, Labels, Mask


@final
@dataclass(frozen=True)
class MaskerOutput:
    """A mask and what it was made from.

    Attributes:
        mask: (B, 1, h, w) in [0, 1].
        attributions: The raw, signed scores that the mask was made from, (B, 1, h, w), or None.
        standard_error: An estimate of the scores' standard error, (B, 1, h, w) per position or (B,) per map,
            or None.
        low_res_mask: What `attribute` enlarged `mask` from, (B, 1, h, w) at the masker's own resolution; what
            stores masks stores this one.

    Example:
        >>> scores = torch.tensor([[[[-1.0, 2.0]]]])
        >>> MaskerOutput(scores.clamp(0, 1), scores).mask.tolist()
        [[[[0.0, 1.0]]]]
    """

    mask: Mask
    attributions: Tensor | None = None
    standard_error: Tensor | None = None
    low_res_mask: Mask | None = None


class Masker(ABC):
    """Finds the mask: an optimiser, a trained network, a sampler, somebody else's attribution.

    Example:
        >>> class Everything(Masker):
        ...     def mask(self, black_box, images, labels, generator):
        ...         return torch.ones(len(images), 1, 1, 1)
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> Everything()(black_box, *black_box.examples(2, generator=g), generator=g).shape
        torch.Size([2, 1, 16, 16])
    """

    needs_gradient: ClassVar[bool] = False
    """Does it take gradients of the black box at mask time?"""

    @abstractmethod
    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask | MaskerOutput:
        """Find the masks; must not keep state between calls.

        Args:
            black_box: The classifier.
            images: (B, C, H, W) on the box's device, without gradient.
            labels: (B,) int64, the class that each mask is for.
            generator: Draw from it with `core.draw` only, so that a picture gets the same mask on
                its own and in a batch.

        Returns:
            (B, 1, h, w) in [0, 1], h and w at most H and W; or `MaskerOutput(mask, attributions, standard_error)`, with
            the raw, signed scores and an estimate of their error.
        """

    @final
    def attribute(
        self, black_box: BlackBox, images: Images, labels: Labels, *, generator: Generator
    ) -> MaskerOutput:
        """Like calling the masker, with the raw scores and their error where there are any,
        upsampled in the same way.

        Args:
            black_box: The classifier.
            images: (B, C, H, W) on the box's device.
            labels: (B,) int64 in [0, K).
            generator: Moves on by one number.

        Returns:
            Mask, scores and error at (H, W), detached, and the mask as small as it was found.

        Raises:
            InputError: Images or labels are malformed, or the box raised.
            GradientError: Gradients are needed and the box is query-only; raised before any query.
            ContractError: The mask or the box's answer is not what its contract says.
        """
        who = checks.name_of(self)
        checks.images(images, who)
        checks.labels(labels, len(images), black_box.num_classes, who)
        if self.needs_gradient and not black_box.differentiable:
            raise GradientError(
                f"{who} needs gradients and {checks.name_of(black_box)} is query-only. Use "
                "masker='rise' or 'occlusion', or explain a differentiable model of the same "
                "task."
            )
        # so that the caller's generator moves on by one number, whatever happens inside
        own = rng.fork(generator)
        with torch.inference_mode(False), torch.set_grad_enabled(self.needs_gradient):
            if images.is_inference():
                images, labels = images.clone(), labels.clone()
            answer = self.mask(black_box, images.detach(), labels, own)
        found = answer if isinstance(answer, MaskerOutput) else MaskerOutput(answer)
        checks.mask(found.mask, images, f"{who}.mask", any_size=True)
        for name, maps in (
            ("attributions", found.attributions),
            ("standard_error", found.standard_error),
        ):
            checks.maps(maps, len(images), f"{who}.mask: {name}", flat=name == "standard_error")
        size = images.shape[2:]
        small = found.mask.detach().clamp(0, 1)
        mask = resize_maps(small, size).clamp(0, 1)
        attributions = (
            None if found.attributions is None else resize_maps(found.attributions.detach(), size)
        )
        error = found.standard_error
        if error is not None:
            error = resize_maps(error.detach(), size) if error.ndim == 4 else error.detach()
        return MaskerOutput(mask, attributions, error, small)

    @final
    def __call__(
        self, black_box: BlackBox, images: Images, labels: Labels, *, generator: Generator
    ) -> Mask:
        """The mask, checked, upsampled bilinearly to (H, W), detached.

        Opens its own grad mode (enabled iff `needs_gradient`), so it works inside a caller's
        `no_grad`. Arguments and errors are those of `attribute`.
        """
        return self.attribute(black_box, images, labels, generator=generator).mask


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps at another size, bilinearly; as they are where they have it.

    Args:
        maps: (B, n, h, w).
        size: Height and width in pixels.

    Returns:
        (B, n, *size).
    """
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
