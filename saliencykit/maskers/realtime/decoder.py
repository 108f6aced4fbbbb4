"""Decoders: from gated feature maps to two maps at the mask's resolution, and to the mask."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from math import exp
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps, resize_maps
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


@final
class UNet(Decoder):
    """A light decoder, 4 to 15 % of MobileNetV2's forward pass: 1x1 laterals, bilinear upsampling,
    one 3x3 convolution per step.

    Upsampling is bilinear since transposed and shuffled convolutions leave a dot pattern. The last
    convolution starts at zero and is added to the gate itself, `C0 = gate + w0`, `C1 = 1 - gate +
    w1`: before training the mask is the gate.

    Args:
        channels: Of the encoder's maps, fine to coarse.
        sides: Of the encoder's maps, for the images it is made for.
        side: h and w of the result; steps without a lateral lead up to it.
        widths: Channels from the coarsest step to the finest; the last one is repeated.
        offset: How far below and to the right of an even grid the coarsest map sees the image, in
            its own positions; the gate is enlarged accordingly.

    Raises:
        InputError: The numbers of channels and sides differ.

    References:
        Ronneberger et al. 2015, "U-Net"; Dabkowski & Gal 2017, section 4.1, upsampler; Odena et al.
        2016, "Deconvolution and Checkerboard Artifacts".
    """

    kind = "unet"

    def __init__(
        self,
        channels: Sequence[int],
        sides: Sequence[tuple[int, int]],
        side: tuple[int, int],
        widths: Sequence[int] = (64, 48, 32, 16),
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        if len(channels) != len(sides) or not channels:
            raise InputError(
                f"UNet takes one side per map; got {len(channels)} maps and {len(sides)} sides."
            )
        self.channels, self.sides = tuple(channels), tuple((s[0], s[1]) for s in sides)
        self.side, self.widths = (side[0], side[1]), tuple(widths)
        self.offset = (offset[0], offset[1])
        steps = list(reversed(self.sides))  # coarse to fine, from the coarsest map on
        while steps[-1][0] < side[0]:
            steps.append((min(2 * steps[-1][0], side[0]), min(2 * steps[-1][1], side[1])))
        self.steps = tuple(steps[1:])
        width = [widths[min(i, len(widths) - 1)] for i in range(len(steps))]
        self.laterals = nn.ModuleList(
            _conv_bn(c, w, 1) for c, w in zip(reversed(self.channels), width, strict=False)
        )
        self.first = _conv_bn(width[0], width[0], 3)
        self.narrow = nn.ModuleList(nn.Conv2d(w + 1, after, 1) for w, after in pairwise(width))
        self.refine = nn.ModuleList(_conv_bn(w, w, 3) for w in width[1:])
        self.last = _zero_conv(width[-1])

    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The laterals, coarse to fine."""
        return tuple(lateral(m) for lateral, m in zip(self.laterals, reversed(maps), strict=True))

    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """(B, 2, h, w); see `Decoder.forward`."""
        x = F.relu(prepared[0] * gate, inplace=True)
        x = F.relu(x + self.first(x), inplace=True)
        coarsest, upsampled = prepared[0].shape[2:], self._placed(gate, gate.shape[2:])
        for number, (narrow, refine) in enumerate(zip(self.narrow, self.refine, strict=True)):
            x = _conv_with_gate(cast(nn.Conv2d, narrow), x, upsampled)
            if number + 1 < len(prepared):
                size = prepared[number + 1].shape[2:]
                x = resize_maps(x, size) + prepared[number + 1]
            else:
                sides = zip(coarsest, self.steps[number], self.sides[-1], strict=True)
                size = torch.Size(round(int(c) * s / b) for c, s, b in sides)
                x = resize_maps(x, size)
            x = F.relu(refine(F.relu(x, inplace=True)), inplace=True)
            upsampled = self._placed(gate, size)
        return _add_to_gate(self.last, x, upsampled)

    def _placed(self, gate: Tensor, size: Sequence[int]) -> Tensor:
        """The gate on a finer grid, where the coarsest map sees the image."""
        scale = (size[0] / gate.shape[2], size[1] / gate.shape[3])
        return place_maps(gate, size, (self.offset[0] * scale[0], self.offset[1] * scale[1]))

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("channels", "sides", "side", "widths", "offset")
        return {name: getattr(self, name) for name in names}

    def folded(self) -> "UNet":
        """A copy for inference, in channels_last, with batch norms folded into convolutions."""
        twin = cast(UNet, super().folded())
        for pairs in (twin.laterals, twin.refine):
            for number, pair in enumerate(pairs):
                pairs[number] = fuse_conv_bn_eval(*cast(Any, pair))
        twin.first = cast(Any, fuse_conv_bn_eval(*cast(Any, twin.first)))
        return twin.to(memory_format=torch.channels_last)


@final
class Bottleneck(Decoder):
    """The paper's upsamplers: each step doubles the side, concatenates the encoder's map of that
    side, and runs bottleneck residual blocks.

    Heavy for a light trunk: 21 M weights on a ResNet-50. Upsampling is bilinear instead of
    transposed or shuffled.

    Args:
        channels: Of the encoder's maps, fine to coarse.
        sides: Of the encoder's maps.
        side: h and w of the result.
        width: Channels of the finest step, doubled at each coarser one; 64 in the authors' code.
        blocks: Blocks per step: three in the paper, one in the authors' code and for CIFAR-10.

    References:
        Dabkowski & Gal 2017, section 4.1; widths from the authors' published code.
    """

    kind = "bottleneck"

    def __init__(
        self,
        channels: Sequence[int],
        sides: Sequence[tuple[int, int]],
        side: tuple[int, int],
        width: int = 64,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.channels, self.sides = tuple(channels), tuple((s[0], s[1]) for s in sides)
        self.side, self.width, self.blocks = (side[0], side[1]), width, blocks
        used = [i for i, s in enumerate(sides) if s[0] <= side[0]] or [len(sides) - 1]
        self.skipped = used[0]
        before, *laterals = reversed(self.channels[self.skipped :])
        self.steps = nn.ModuleList()
        for number, lateral in enumerate(laterals):
            after = width * 2 ** (len(laterals) - 1 - number)
            rest = (_Block(after, after) for _ in range(blocks - 1))
            chain = nn.Sequential(_Block(after + lateral, after), *rest)
            self.steps.append(nn.ModuleList([_conv_bn(before, after, 3), chain]))
            before = after
        self.last = _zero_conv(before)

    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The maps that are used, coarse to fine."""
        return tuple(reversed(maps[self.skipped :]))

    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """(B, 2, h, w); see `Decoder.forward`."""
        x = prepared[0] * gate
        for step, lateral in zip(self.steps, prepared[1:], strict=True):
            shrink, blocks = cast(nn.ModuleList, step)
            x = blocks(torch.cat([resize_maps(F.relu(shrink(x)), lateral.shape[2:]), lateral], 1))
        return _add_to_gate(self.last, x, resize_maps(gate, x.shape[2:]))

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("channels", "sides", "side", "width", "blocks")
        return {name: getattr(self, name) for name in names}


@final
class _Block(nn.Module):
    """A bottleneck residual block, 1x1 - 3x3 - 1x1 at a quarter of the width (He et al. 2016,
    figure 5).
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        inner = max(1, after // 4)
        self.body = nn.Sequential(
            _conv_bn(before, inner, 1),
            nn.ReLU(),
            _conv_bn(inner, inner, 3),
            nn.ReLU(),
            _conv_bn(inner, after, 1),
        )
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


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


def _conv_bn(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after)
    )


def _zero_conv(channels: int) -> nn.Conv2d:
    """The last convolution, which starts at zero."""
    last = nn.Conv2d(channels, 2, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(cast(Tensor, last.bias))
    return last


def _conv_with_gate(narrow: nn.Conv2d, x: Tensor, gate: Tensor) -> Tensor:
    """A 1x1 convolution of x with the gate as one more channel, without concatenating them."""
    return torch.addcmul(
        F.conv2d(x, narrow.weight[:, :-1], narrow.bias), narrow.weight[:, -1], gate
    )


def _add_to_gate(last: nn.Conv2d, x: Tensor, gate: Tensor) -> Tensor:
    """The last convolution's two maps, plus the gate and its complement."""
    weight, bias = last.weight.flatten(1), cast(Tensor, last.bias)
    # as a matrix product: a convolution in channels_last takes twice as long with two channels
    pair = torch.baddbmm(bias[:, None], weight.expand(x.shape[0], -1, -1), x.flatten(2))
    return torch.cat([gate, 1 - gate], 1).add_(pair.view(-1, 2, *x.shape[2:]))
