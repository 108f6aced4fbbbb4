"""UNet: a light decoder, from gated feature maps to two maps at the mask's resolution."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps, resize_maps
from saliencykit.maskers.realtime.decoder import Decoder, add_to_gate, conv_bn, zero_conv


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
            conv_bn(c, w, 1) for c, w in zip(reversed(self.channels), width, strict=False)
        )
        self.first = conv_bn(width[0], width[0], 3)
        self.narrow = nn.ModuleList(nn.Conv2d(w + 1, after, 1) for w, after in pairwise(width))
        self.refine = nn.ModuleList(conv_bn(w, w, 3) for w in width[1:])
        self.last = zero_conv(width[-1])

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
        return add_to_gate(self.last, x, upsampled)

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


def _conv_with_gate(narrow: nn.Conv2d, x: Tensor, gate: Tensor) -> Tensor:
    """A 1x1 convolution of x with the gate as one more channel, without concatenating them."""
    return torch.addcmul(
        F.conv2d(x, narrow.weight[:, :-1], narrow.bias), narrow.weight[:, -1], gate
    )
