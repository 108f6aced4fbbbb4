"""Bottleneck: the paper's decoder, of upsamplers with bottleneck residual blocks."""

from collections.abc import Sequence
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliencykit.core.map_placement import resize_maps
from saliencykit.maskers.realtime.decoder import Decoder, add_to_gate, conv_bn, zero_conv


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
            self.steps.append(nn.ModuleList([conv_bn(before, after, 3), chain]))
            before = after
        self.last = zero_conv(before)

    def prepare(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The maps that are used, coarse to fine."""
        return tuple(reversed(maps[self.skipped :]))

    def forward(self, prepared: tuple[Tensor, ...], gate: Tensor) -> Tensor:
        """(B, 2, h, w); see `Decoder.forward`."""
        x = prepared[0] * gate
        for step, lateral in zip(self.steps, prepared[1:], strict=True):
            shrink, blocks = cast(nn.ModuleList, step)
            x = blocks(torch.cat([resize_maps(F.relu(shrink(x)), lateral.shape[2:]), lateral], 1))
        return add_to_gate(self.last, x, resize_maps(gate, x.shape[2:]))

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
            conv_bn(before, inner, 1),
            nn.ReLU(),
            conv_bn(inner, inner, 3),
            nn.ReLU(),
            conv_bn(inner, after, 1),
        )
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))
