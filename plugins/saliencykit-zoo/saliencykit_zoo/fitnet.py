"""FitNet4: the thin and deep network that the paper explains on CIFAR-10."""

from typing import final

from torch import Tensor, nn


@final
class FitNet4(nn.Module):
    """FitNet-4 with ReLUs and batch norms: 17 convolutions of 3x3 and a linear head, 1.21 M
    parameters.

    Three stages at strides 1, 2 and 4, with a 2x2 max pooling between them:

        images    (B,   3, H,   W)    normalized
        stages.0  (B,  48, H,   W)    convolutions to 32, 32, 32, 48, 48 channels
        stages.1  (B,  80, H/2, W/2)  pool, then 6 convolutions to 80
        stages.2  (B, 128, H/4, W/4)  pool, then 6 convolutions to 128; `forward_features`
        head      (B, K)              the mean over positions, and one linear layer

    Romero et al. have maxout units (twice the weights), no batch norms, and pool the last maps by
    their maximum before a hidden fully connected layer. Here each convolution is followed by a
    batch norm and a ReLU, so that a few epochs suffice, and the mean goes straight to the classes,
    so that the head's rows give the evidence at every position. Fully convolutional: any
    height and width.

    Args:
        num_classes: K, the number of classes, >= 1.
        widths: Output channels of the convolutions, one tuple per stage.

    Example:
        >>> import torch
        >>> FitNet4()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    References:
        Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", ICLR, table of architectures
        (FitNet 4). Ioffe & Szegedy 2015, "Batch Normalization". Lin et al. 2014, "Network in
        Network", section 3.2 (global average pooling).
    """

    def __init__(
        self,
        num_classes: int = 10,
        widths: tuple[tuple[int, ...], ...] = ((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6),
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width = 3
        for index, outs in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if index else []
            for out in outs:
                layers += [
                    nn.Conv2d(width, out, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out),
                    nn.ReLU(),
                ]
                width = out
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature maps before pooling, (B, 128, H/4, W/4), >= 0."""
        features: Tensor = self.stages(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, 3, H, W) to logits (B, K)."""
        logits: Tensor = self.head(self.forward_features(images).mean((2, 3)))
        return logits
