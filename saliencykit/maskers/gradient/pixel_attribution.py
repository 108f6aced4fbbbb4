"""Attributions to the channels of each pixel, and the rules that turn them into masks."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import finite_rows
from saliencykit.core.errors import ContractError, GradientError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.query_batches import in_batches
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.normalize import NONFINITE_HINT, mask_from_attributions

Sign: TypeAlias = Literal["absolute", "positive"]
Channels: TypeAlias = Literal["max", "sum", "mean"]

_BATCH = 8  # images, on an accelerator whose black box names no limit
# on a CPU a second image saves a tenth of the time, and further ones cost memory only: the graph of
# MobileNetV2 holds 50 MB for one of 224 pixels
_CPU_PIXELS = 2 * 224 * 224
_CPU_BATCH = 32  # small images


@dataclass(frozen=True, kw_only=True)
class PixelAttribution(Masker):
    """A masker that attributes the label's logit to the channels of each pixel.

    The channels are reduced to one signed score per position. Its magnitude, or its positive part,
    divided by the image's largest, is the mask.

    Args:
        sign: Which part of a score becomes the mask: `absolute`, for gradients, whose sign says
            only whether a pixel should be brighter or darker; or `positive`, for methods whose sign
            says whether a pixel speaks for the label.
        channels: How channels become one score: the value of the largest magnitude (`max`), their
            `sum`, or their `mean`.

    Raises:
        InputError: `sign` or `channels` is not one of those.
    """

    sign: Sign = "absolute"
    channels: Channels = "max"

    needs_gradient: ClassVar[bool] = True

    @abstractmethod
    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """Signed attributions, (B, C, h, w), each row computed from its own image alone.

        Args:
            black_box: The classifier, queried as it is.
            images: (B, C, H, W).
            labels: (B,).
            generator: The source of randomness.
        """

    def prepared(self, black_box: BlackBox, images: Images, passes: int) -> BlackBox:
        """The black box to query: an optimized copy where an image takes more than one pass.

        Args:
            black_box: The classifier.
            images: (B, C, H, W).
            passes: Forward passes per image.
        """
        return black_box.optimized_for(images) if passes > 1 else black_box

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """One signed score per position, and the chosen part of it as the mask."""
        maps = self.attribution(black_box, images, labels, generator)
        return reduce_channels(maps, images, self.sign, self.channels)


def reduce_channels(maps: Tensor, images: Images, sign: Sign, channels: Channels) -> MaskerOutput:
    """One signed score per position of maps (B, C, h, w), and the mask made from it; the maps
    themselves too, where they are over the pixels.

    Example:
        >>> maps = torch.tensor([[[[-4.0]], [[2.0]]]])
        >>> reduce_channels(maps, torch.zeros(1, 2, 1, 1), "absolute", "max").attributions.item()
        -4.0
    """
    if channels == "max":
        # ten times as fast as argmax of the magnitudes
        highest, lowest = maps.amax(1, keepdim=True), maps.amin(1, keepdim=True)
        scores = torch.where(highest >= -lowest, highest, lowest)
    else:
        scores = maps.sum(1, keepdim=True) if channels == "sum" else maps.mean(1, keepdim=True)
    mask = mask_from_attributions(scores.abs() if sign == "absolute" else scores)
    own = maps if maps.shape == images.shape else None
    return MaskerOutput(mask, scores, channel_attributions=own)


def batch_size_of(black_box: BlackBox, images: Images) -> int:
    """How many images to backpropagate at once: the graph of all of them is in memory.

    Args:
        black_box: The classifier.
        images: (B, C, H, W); their size and device count.

    Returns:
        On a CPU as many as have 100,000 pixels together, 2 of 224 x 224; elsewhere 8. At most the
        black box's `max_batch_size`, which on an accelerator is the answer where there is one.
    """
    if images.device.type != "cpu":
        return black_box.max_batch_size or _BATCH
    pixels = images.shape[2] * images.shape[3]
    return max(1, min(_CPU_PIXELS // pixels, black_box.max_batch_size or _CPU_BATCH))


def baseline_pixel(black_box: BlackBox, images: Images) -> Tensor:
    """The color that the black box's normalization maps to 0, (1, C, 1, 1)."""
    color = black_box.baseline_color or (0.0,) * images.shape[1]
    return images.new_tensor(color).view(1, -1, 1, 1)


def input_gradient(
    query: Callable[[Images], Logits], images: Images, labels: Labels, batch_size: int, who: str
) -> Tensor:
    """The gradient of each label's logit with respect to the pixels, (B, C, H, W).

    Args:
        query: A black box, or a function that queries one.
        images: (B, C, H, W).
        labels: (B,).
        batch_size: Images per forward and backward pass.
        who: The method and the black box, for errors.

    Raises:
        GradientError: The logits do not depend on the images in autograd.
        ContractError: The gradient has NaN or infinite values.
    """
    batches = in_batches(batch_size, images, labels)
    gradient = torch.cat([_one_pass(query, some, own, who) for some, own in batches])
    if bad := finite_rows(gradient):
        raise ContractError(
            f"{who}: the gradient is NaN or infinite in row {bad[0]} of {len(images)}; "
            f"{NONFINITE_HINT}"
        )
    return gradient


def _one_pass(
    query: Callable[[Images], Logits], images: Images, labels: Labels, who: str
) -> Tensor:
    inputs, gradient = images.detach().clone().requires_grad_(), None
    with torch.enable_grad():
        logits = query(inputs)
        selected = logits.gather(1, labels[:, None]).sum()
    if selected.requires_grad:
        (gradient,) = torch.autograd.grad(selected, inputs, allow_unused=True)
    if gradient is None:
        raise GradientError(
            f"{who}: the logits do not depend on the images in autograd. Use masker='rise' or "
            "'occlusion', which need no gradients."
        )
    return gradient
