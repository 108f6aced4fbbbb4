"""Decoders: from gated feature maps to two maps at the mask's resolution, and to the mask."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import exp
from typing import Any, cast

import torch
from torch import Tensor, nn

from saliencykit.core.types import Mask

_EPSILON = 1e-4  # in the denominator of the mask: for the gradient at 0 / 0


class Decoder(nn.Module, ABC):
    """From feature maps and a gate to two maps, (B, 2, h, w), whose ratio is the mask.

    What does not depend on the class is `prepare`d once per image; `forward` does the rest for one
    class per image.

    Attributes:
        kind: The name in files.
        side: h and w of the result for the images it was made for.
    """

    kind: str
    side: tuple[int, int]

    @abstractmethod
    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Everything that does not depend on the class; each tensor has B rows.

        Args:
            maps: The encoder's, (B, C_i, h_i, w_i), fine to coarse.
        """

    @abstractmethod
    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """The two maps of one class per image.

        Args:
            prepared: From `prepare`.
            gate: (B, 1, h, w) in [0, 1] at the coarsest side: where the class is.

        Returns:
            (B, 2, h, w) at the mask's resolution.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON."""

    def folded(self) -> "Decoder":
        """A copy for inference; by default in eval mode, without gradients."""
        return copy.deepcopy(self).eval().requires_grad_(False)


def mask_ratio(pair: Tensor, confidence: float = 0.0) -> Mask:
    """The mask `M = |C0| / (|C0| + e^confidence |C1| + eps)` of two maps (B, 2, h, w).

    Decreases with the confidence: high values keep only what is most salient, low values everything
    that resembles the class.

    Args:
        pair: (B, 2, h, w); signs make no difference.
        confidence: In log-odds; 0 as trained.

    Returns:
        (B, 1, h, w) in [0, 1].

    Example:
        >>> round(mask_ratio(torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)).item(), 3)
        0.75

    References:
        Dabkowski & Gal 2017, section 4.1. The confidence of the authors' code shifts the selector's
        gate instead.
    """
    keep, replace = pair.abs().unbind(1)
    if confidence:
        replace = replace * exp(min(max(confidence, -80.0), 80.0))
    return (keep / (keep + replace + _EPSILON)).unsqueeze(1)


def conv_bn(before: int, after: int, kernel: int) -> nn.Sequential:
    """A convolution with a batch norm, which keeps the size.

    Args:
        before: Channels of its input.
        after: Channels of its output.
        kernel: Pixels per side, odd.
    """
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after)
    )


def zero_conv(channels: int) -> nn.Conv2d:
    """The last convolution, which starts at zero.

    Args:
        channels: Of its input.
    """
    last = nn.Conv2d(channels, 2, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(cast(Tensor, last.bias))
    return last


def add_to_gate(last: nn.Conv2d, x: Tensor, gate: Tensor) -> Tensor:
    """The last convolution's two maps, plus the gate and its complement.

    Args:
        last: See `zero_conv`.
        x: Its input, (B, C, h, w).
        gate: (B, 1, h, w).
    """
    weight, bias = last.weight.flatten(1), cast(Tensor, last.bias)
    # as a matrix product: a convolution in channels_last takes twice as long with two channels
    pair = torch.baddbmm(bias[:, None], weight.expand(x.shape[0], -1, -1), x.flatten(2))
    return torch.cat([gate, 1 - gate], 1).add_(pair.view(-1, 2, *x.shape[2:]))
