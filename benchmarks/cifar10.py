"""CIFAR-10: the ResNet-20 of the data folder as a black box, and what tells a selective mask from
one that only sees objects.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from benchmarks.data import Pack, data_folder
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import BlackBox, Images, Labels
from saliencykit.maskers import RealTimeMasker
from saliencykit.training import quarter_shares

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.after = 1 if before == after else 2, after
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        quarter = self.after // 4
        shortcut = (
            x if self.stride == 1 else F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        )
        return F.relu(y + shortcut)


class ResNet20(nn.Module):
    """The CIFAR ResNet of three blocks a stage, 0.27 M parameters; fully convolutional."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized images (B, 3, H, W) to logits (B, 10)."""
        maps = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        logits: Tensor = self.linear(maps.mean((2, 3)))
        return logits


def cifar10(split: str, count: int, *, seed: int = 0) -> tuple[Tensor, Labels]:
    """`count` images of `train` or `test`, drawn without repeats: uint8 (n, 3, 32, 32) and labels
    (n,).
    """
    pack = Pack(data_folder() / "cifar10" / f"{split}.npz")
    chosen = torch.randperm(len(pack.labels), generator=Generator().manual_seed(seed))[:count]
    return pack.pixels(chosen.tolist()), pack.labels[chosen]


def resnet20(*, steps: int = 0, seed: int = 0) -> TorchBlackBox:
    """The data folder's ResNet-20. It was trained on the original pixels: `steps` of 128 images
    adapt it to the JPEG copies.
    """
    from safetensors.torch import load_file

    net = ResNet20()
    net.load_state_dict(
        load_file(data_folder() / "weights" / "cifar10_resnet20.safetensors"), strict=False
    )
    net = net.to(memory_format=torch.channels_last)
    if steps:
        adapt(net, *cifar10("train", min(50_000, 128 * steps), seed=seed), seed=seed)
    return TorchBlackBox(
        net.eval().requires_grad_(False), mean=MEAN, std=STD, size=32, class_names=CLASSES
    )


def adapt(
    net: nn.Module,
    photos: Tensor,
    labels: Labels,
    *,
    seed: int,
    batch: int = 128,
    lr: float = 0.02,
) -> None:
    """One pass over the images by SGD, the rate falling straight to 0, flipped and shifted by up
    to 2 pixels at random.
    """
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    optimizer = torch.optim.SGD(
        net.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    g, total = Generator().manual_seed(seed), len(photos) // batch
    net.train()
    for step, index in enumerate(
        torch.randperm(len(photos), generator=g)[: total * batch].split(batch)
    ):
        images = photos[index].float() / 255
        images = torch.where(
            torch.rand(len(index), 1, 1, 1, generator=g) < 0.5, images.flip(-1), images
        )
        across, down = torch.randint(5, (2,), generator=g).tolist()
        images = F.pad(images, (2, 2, 2, 2), mode="reflect")[
            :, :, down : down + 32, across : across + 32
        ]
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / total)
        loss = F.cross_entropy(
            net(((images - mean) / std).to(memory_format=torch.channels_last)), labels[index]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@dataclass(frozen=True)
class Selectivity:
    """Of a masker, on images that it was not trained on.

    Attributes:
        accuracy: Of the black box, on all images.
        area: Mean mask for the predicted class.
        fake: Mean mask for a random other class, as a share of `area`.
        mosaic: Mean share of a mask's mass in the right quarter of mosaics twice as large, of four
            confident images of four classes; chance is 0.25.
        mosaics: How many.
    """

    accuracy: float
    area: float
    fake: float
    mosaic: float
    mosaics: int


def selectivity(
    masker: RealTimeMasker,
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    *,
    mosaics: int = 250,
    sure: float = 0.9,
    seed: int = 0,
) -> Selectivity:
    """Measure a masker without boxes or annotations; the black box must take images of twice the
    size.
    """
    fast, generator = black_box.optimized_for(images[:2]), Generator().manual_seed(seed)
    with torch.no_grad():
        logits = torch.cat([fast(part) for part in images.split(50)])
    probability, found = logits.softmax(1).max(1)
    other = (
        found + torch.randint(1, black_box.num_classes, found.shape, generator=generator)
    ) % black_box.num_classes
    queried = torch.stack([found, other], 1)
    rows = [
        masker.decode(masker.encode(fast, x), y)
        for x, y in zip(images.split(50), queried.split(50), strict=True)
    ]
    both = torch.cat(rows).mean((2, 3)).mean(0)
    shares = []
    for four in quartets(found[probability >= sure], mosaics, generator):
        some = (probability >= sure).nonzero().flatten()[four]
        top, bottom = (
            torch.cat([images[some[0]], images[some[1]]], 2),
            torch.cat([images[some[2]], images[some[3]]], 2),
        )
        masks = masker.decode(
            masker.encode(fast, torch.cat([top, bottom], 1)[None]), found[some][None]
        )[0]
        shares.append(quarter_shares(masks))
    return Selectivity(
        accuracy=float((found == labels).float().mean()),
        area=float(both[0]),
        fake=float(both[1] / both[0]),
        mosaic=float(torch.cat(shares).mean()) if shares else float("nan"),
        mosaics=len(shares),
    )


def quartets(classes: Labels, most: int, generator: Generator) -> list[Tensor]:
    """Up to `most` rows of four positions of four different classes; every position is used once at
    most.
    """
    left, out = torch.randperm(len(classes), generator=generator).tolist(), []
    while left and len(out) < most:
        four: list[int] = []
        for row in left:
            if len(four) < 4 and all(classes[row] != classes[other] for other in four):
                four.append(row)
        if len(four) < 4:
            break
        left = [row for row in left if row not in four]
        out.append(torch.tensor(four))
    return out
