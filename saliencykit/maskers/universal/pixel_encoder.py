"""PixelEncoder: a small convolutional network that describes each part of an image."""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from saliencykit.core.types import Images

_TINY = 1e-3  # of the standard deviation: an image of one color stays flat


@final
class PixelEncoder(nn.Module):
    """Features of an image at 1/4 and 1/8 of its resolution, with context from coarser levels.

    Levels at strides 8, 16 and 32; the coarser ones are added to the finer ones, as in a feature
    pyramid. Each channel of each image is standardized first, so that raw and normalized images
    give the same features.

    Args:
        fine: Channels at stride 4.
        widths: Channels of the levels.
        channels: Of the result at stride 8.

    References:
        Lin et al. 2017, "Feature Pyramid Networks for Object Detection".
    """

    def __init__(
        self, fine: int = 24, widths: tuple[int, ...] = (48, 96, 112), channels: int = 48
    ) -> None:
        super().__init__()
        self.fine, self.channels = fine, channels
        self.stem = nn.Sequential(_convolution(3, 16, 2), _convolution(16, fine, 2))
        self.levels, before = nn.ModuleList(), fine
        for width in widths:
            self.levels.append(nn.Sequential(_convolution(before, width, 2), _Residual(width)))
            before = width
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.merge = nn.ModuleList(_Residual(channels) for _ in widths)

    def forward(self, images: Images) -> tuple[Tensor, Tensor]:
        """Features (B, fine, H / 4, W / 4) and (B, channels, H / 8, W / 8), sides rounded up.

        Args:
            images: (B, 3, H, W).
        """
        fine = x = self.stem(standardized(images))
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        merged: Tensor | None = None
        parts = zip(reversed(maps), reversed(self.lateral), reversed(self.merge), strict=True)
        for coarse, lateral, merge in parts:
            here = lateral(coarse)
            if merged is not None:
                here = here + F.interpolate(
                    merged, here.shape[2:], mode="bilinear", align_corners=False
                )
            merged = merge(here)
        assert merged is not None
        return fine, merged

    def fold(self) -> None:
        """Fold the batch norms into the convolutions before them; in evaluation mode."""
        for block in list(self.modules()):
            if isinstance(block, nn.Sequential) and len(block) > 1:
                convolution, norm = block[0], block[1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    block[0] = fuse_conv_bn_eval(convolution, norm)
                    block[1] = nn.Identity()


def standardized(images: Images) -> Images:
    """Each channel of each image with mean 0 and standard deviation 1; a flat one becomes 0."""
    mean = images.mean((2, 3), keepdim=True)
    deviation = images.std((2, 3), keepdim=True, unbiased=False)
    return (images - mean) / deviation.clamp_min(_TINY)


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class _Residual(nn.Module):
    """`x + relu(norm(convolution(x)))`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = _convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(x)  # type: ignore[no-any-return]
