"""DemoNet: the small classifier that the embedded default explains."""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn


@final
class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, average-pooled where strided; He et al. 2016, fig. 2."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.act1 = nn.ReLU()
        self.act2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if width_in != width_out:
            self.shortcut.append(nn.Conv2d(width_in, width_out, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) -> (B, width_out, H / stride, W / stride)."""
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.act2(y + self.shortcut(x))
        return out


@final
class DemoNet(nn.Module):
    """A residual network of 2.5 M parameters for small images.

    Four stages at strides 2, 4, 8 and 16, global average pooling and one linear head, so that the
    class evidence of every position can be read off the head's rows (CAM). Input: RGB in [0, 1],
    mean 0.5 and standard deviation 0.25 removed.

    Args:
        num_classes: K, the number of classes, >= 1.
        widths: Channels of the four stages.
        depths: Residual blocks of the four stages.

    Example:
        >>> import torch
        >>> DemoNet(num_classes=5)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5])

    References:
        He et al. 2016, "Deep Residual Learning for Image Recognition".
    """

    def __init__(
        self,
        num_classes: int = 200,
        widths: tuple[int, ...] = (40, 80, 160, 320),
        depths: tuple[int, ...] = (1, 2, 2, 1),
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.act = nn.ReLU()
        stages: list[nn.Module] = []
        width = widths[0]
        for index, (out, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[nn.Module] = []
            for block in range(depth):
                blocks.append(ResidualBlock(width, out, 2 if block == 0 and index > 0 else 1))
                width = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature maps, (B, 320, H / 16, W / 16), before pooling."""
        features: Tensor = self.stages(self.act(self.norm(self.stem(images))))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, H, W) to logits (B, K)."""
        logits: Tensor = self.head(
            F.adaptive_avg_pool2d(self.forward_features(images), 1).flatten(1)
        )
        return logits
