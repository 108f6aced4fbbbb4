"""Decoder: from the gated features to two maps at the mask's resolution, and from those to the
mask.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.core.masker import resize_maps
from saliencykit.core.types import Mask

_EPSILON = 1e-4  # of the head's denominator: the gradient at 0 / 0


class Decoder(nn.Module, ABC):
    """Feature maps and a gate to two maps, (B, 2, h, w), which the head makes a mask of.

    What does not depend on the class is `prepare`d once per picture; `forward` does the rest for
    one class per picture.

    Attributes:
        kind: Its name in files.
        side: h and w of the result for the pictures it was made for.
    """

    kind: str
    side: tuple[int, int]

    @abstractmethod
    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Whatever of the maps does not depend on the class; every tensor has B rows.

        Args:
            maps: The encoder's, (B, C_i, h_i, w_i), fine to coarse.
        """

    @abstractmethod
    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """The two maps of one class per picture.

        Args:
            prepared: What `prepare` made.
            gate: (B, 1, h, w) in [0, 1] at the coarsest side: where the class is.

        Returns:
            (B, 2, h, w) at the mask's resolution.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What makes the same decoder again, as JSON."""

    def folded(self) -> "Decoder":
        """A copy for inference; by default in eval mode, without gradients."""
        return copy.deepcopy(self).eval().requires_grad_(False)


@final
class UNet(Decoder):
    """A light decoder, 4 to 15 % of a MobileNetV2's forward pass: 1x1 laterals, bilinear steps, one
    3x3 convolution a step.

    Bilinear rather than transposed or shuffled upsampling, which leaves a dot pattern. The last
    convolution starts at zero and is added to the gate itself, `C0 = gate + w0`, `C1 = 1 - gate +
    w1`: before the first step the mask is the gate.

    Args:
        channels: Of the encoder's maps, fine to coarse.
        sides: Of the encoder's maps, for the pictures it is made for.
        side: h and w of the result; steps without a lateral are added up to it.
        widths: Channels from the coarsest step to the finest; the last is repeated.

    Raises:
        InputError: Channels and sides differ in number.

    References:
        Ronneberger et al. 2015, U-Net; Dabkowski & Gal 2017, section 4.1, upsampler; Odena et al.
        2016, "Deconvolution and Checkerboard Artifacts".
    """

    kind = "unet"

    def __init__(
        self,
        channels: Sequence[int],
        sides: Sequence[tuple[int, int]],
        side: tuple[int, int],
        widths: Sequence[int] = (64, 48, 32, 16),
    ) -> None:
        super().__init__()
        if len(channels) != len(sides) or not channels:
            raise InputError(
                f"UNet takes one side per map; got {len(channels)} maps and {len(sides)} sides."
            )
        self.channels, self.sides = tuple(channels), tuple((s[0], s[1]) for s in sides)
        self.side, self.widths = (side[0], side[1]), tuple(widths)
        steps = list(reversed(self.sides[:-1]))
        while (steps or [self.sides[-1]])[-1][0] < side[0]:
            last = (steps or [self.sides[-1]])[-1]
            steps.append((min(2 * last[0], side[0]), min(2 * last[1], side[1])))
        self.steps = tuple(steps)
        width = [widths[min(i, len(widths) - 1)] for i in range(len(steps) + 1)]
        self.laterals = nn.ModuleList(
            _conv(c, w, 1) for c, w in zip(reversed(self.channels), width, strict=False)
        )
        self.first = _conv(width[0], width[0], 3)
        self.narrow = nn.ModuleList(nn.Conv2d(w + 1, after, 1) for w, after in pairwise(width))
        self.refine = nn.ModuleList(_conv(w, w, 3) for w in width[1:])
        self.last = nn.Conv2d(width[-1], 2, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The laterals, coarse to fine."""
        return tuple(lateral(m) for lateral, m in zip(self.laterals, reversed(maps), strict=True))

    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """(B, 2, h, w); see `Decoder.forward`."""
        x = F.relu(prepared[0] * gate, inplace=True)
        x = F.relu(x + self.first(x), inplace=True)
        coarsest, grown = prepared[0].shape[2:], gate
        for number, (narrow, refine) in enumerate(zip(self.narrow, self.refine, strict=True)):
            x = _with_gate(cast(nn.Conv2d, narrow), x, grown)
            if number + 1 < len(prepared):
                size = prepared[number + 1].shape[2:]
                x = resize_maps(x, size) + prepared[number + 1]
            else:
                pairs = zip(coarsest, self.steps[number], self.sides[-1], strict=True)
                size = torch.Size(round(int(c) * s / b) for c, s, b in pairs)
                x = resize_maps(x, size)
            x = F.relu(refine(F.relu(x, inplace=True)), inplace=True)
            grown = resize_maps(gate, size)
        return _two(self.last, x, grown)

    def options(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "channels": self.channels,
            "sides": self.sides,
            "side": self.side,
            "widths": self.widths,
        }

    def folded(self) -> "UNet":
        """A copy for inference, batch norms folded into their convolutions."""
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        twin = cast(UNet, super().folded())
        for rows in (twin.laterals, twin.refine):
            for number, pair in enumerate(rows):
                rows[number] = fuse_conv_bn_eval(*cast(Any, pair))
        twin.first = cast(Any, fuse_conv_bn_eval(*cast(Any, twin.first)))
        return twin.to(memory_format=torch.channels_last)


@final
class Bottleneck(Decoder):
    """The paper's upsamplers: at each step x2, the encoder's map of that scale beside it, and
    bottleneck residual blocks.

    Heavy beside a light trunk: 21 M weights on a ResNet-50. Bilinear steps instead of transposed or
    shuffled ones.

    Args:
        channels: Of the encoder's maps, fine to coarse.
        sides: Of the encoder's maps.
        side: h and w of the result.
        width: Channels of the finest step, doubled at each coarser one; 64 in the authors' code.
        blocks: Bottlenecks a step: three in the paper, one in the authors' code and for CIFAR-10.

    References:
        Dabkowski & Gal 2017, section 4.1; widths after the authors' published code.
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
        used = [i for i, s in enumerate(sides) if s[0] <= side[0]] or [len(sides) - 1]
        self.channels, self.sides = tuple(channels), tuple((s[0], s[1]) for s in sides)
        self.side, self.width, self.blocks, self.skipped = (
            (side[0], side[1]),
            width,
            blocks,
            used[0],
        )
        kept = list(reversed(self.channels[self.skipped :]))
        before = kept[0]
        self.steps = nn.ModuleList()
        for number, lateral in enumerate(kept[1:]):
            after = width * 2 ** (len(kept) - 2 - number)
            rows = [
                _Block(after + lateral, after),
                *(_Block(after, after) for _ in range(blocks - 1)),
            ]
            self.steps.append(nn.ModuleList([_conv(before, after, 3), nn.Sequential(*rows)]))
            before = after
        self.last = nn.Conv2d(before, 2, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The maps that are used, coarse to fine."""
        return tuple(reversed(maps[self.skipped :]))

    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """(B, 2, h, w); see `Decoder.forward`."""
        x = prepared[0] * gate
        for step, lateral in zip(self.steps, prepared[1:], strict=True):
            shrink, blocks = cast(nn.ModuleList, step)
            x = blocks(torch.cat([resize_maps(F.relu(shrink(x)), lateral.shape[2:]), lateral], 1))
        grown = resize_maps(gate, x.shape[2:])
        return _two(self.last, x, grown)

    def options(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "channels": self.channels,
            "sides": self.sides,
            "side": self.side,
            "width": self.width,
            "blocks": self.blocks,
        }


@final
class _Block(nn.Module):
    """A bottleneck residual block, 1x1 - 3x3 - 1x1 at a quarter of the width (He et al. 2016, fig.
    5).
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        inner = max(1, after // 4)
        self.body = nn.Sequential(
            _conv(before, inner, 1),
            nn.ReLU(),
            _conv(inner, inner, 3),
            nn.ReLU(),
            _conv(inner, after, 1),
        )
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def ratio(two: Tensor, confidence: float = 0.0) -> Mask:
    """The head: `M = |C0| / (|C0| + e^confidence |C1| + eps)` of two maps (B, 2, h, w).

    Falls monotonically with the confidence: high keeps only what is most salient, low everything
    that resembles the class.

    Args:
        two: (B, 2, h, w); the signs make no difference.
        confidence: In log-odds; 0 as trained.

    Returns:
        (B, 1, h, w) in [0, 1].

    Example:
        >>> round(ratio(torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)).item(), 3)
        0.75

    References:
        Dabkowski & Gal 2017, section 4.1 (the ratio). The knob of the authors' code shifts the
        selector's gate instead.
    """
    keep, replace = two.abs().unbind(1)
    if confidence:
        replace = replace * float(torch.tensor(confidence).clamp(-80, 80).exp())
    return (keep / (keep + replace + _EPSILON)).unsqueeze(1)


def _conv(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after)
    )


def _with_gate(narrow: nn.Conv2d, x: Tensor, gate: Tensor) -> Tensor:
    """A 1x1 convolution of x with the gate as one more channel, without copying x to put the gate
    beside it.
    """
    return torch.addcmul(
        F.conv2d(x, narrow.weight[:, :-1], narrow.bias), narrow.weight[:, -1], gate
    )


def _two(last: nn.Conv2d, x: Tensor, gate: Tensor) -> Tensor:
    """The last 1x1 convolution, with the gate and its complement added to its two maps."""
    weight, bias = last.weight.flatten(1), cast(Tensor, last.bias)
    # a product that writes two planes: a convolution in channels_last takes twice as long with two
    # channels
    two = torch.baddbmm(bias[:, None], weight.expand(x.shape[0], -1, -1), x.flatten(2)).view(
        -1, 2, *x.shape[2:]
    )
    return torch.cat([gate, 1 - gate], 1).add_(two)
