"""Readers of the data folder for benchmarks: photos with labels and boxes, and five ImageNet
classifiers.

The folder is $SALIENCYKIT_DATA, else `../shared/data` beside the repository. Its README says where
everything comes from.
"""

import csv
import io
import os
import random
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import Images, InputError, Labels
from saliencykit.data import visible_boxes


@dataclass(frozen=True)
class Photo:
    """One labelled photo at the model's size.

    Attributes:
        name: File name in the data set.
        image: (1, 3, H, W), raw pixels in [0, 1].
        label: ImageNet class, 0..999.
        boxes: (n, 4) x0, y0, x1, y1 in pixels of `image`; n is 0 where the data set has none.
    """

    name: str
    image: Tensor
    label: int
    boxes: Tensor


def data_folder() -> Path:
    """The data folder.

    Raises:
        InputError: It is not there.
    """
    folder = Path(
        os.environ.get("SALIENCYKIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    )
    if not (folder / "README.md").exists():
        raise InputError(
            f"no data folder at {folder}; set SALIENCYKIT_DATA to the folder that holds "
            "ilsvrc2012-val-a and weights."
        )
    return folder


def read_photos(
    data_set: str, black_box: TorchBlackBox, *, count: int, seed: int = 0
) -> list[Photo]:
    """`count` photos of `ilsvrc2012-val-a`, `ilsvrc2012-val-b` or `imagenet-sample`, drawn without
    repeats, as `black_box` wants them.
    """
    from PIL import Image

    folder = data_folder() / data_set
    rows = list(csv.DictReader((folder / "index.csv").read_text().splitlines()))
    random.Random(seed).shuffle(rows)
    photos = []
    with zipfile.ZipFile(folder / "images.zip") as images:
        for row in rows[:count]:
            photo = Image.open(io.BytesIO(images.read(row["file"]))).convert("RGB")
            image, geometry = black_box.prepare(photo)
            corners = [[float(v) for v in b.split()] for b in row.get("boxes", "").split(";") if b]
            boxes = visible_boxes(torch.tensor(corners).reshape(-1, 4), geometry)
            photos.append(Photo(row["file"], image, int(row["label"]), boxes))
    return photos


def mobilenet_v2() -> TorchBlackBox:
    """MobileNetV2 1.0, 224 px, of the data folder. From TensorFlow: stride-2 convolutions pad right
    and below only.
    """
    import torchvision
    from safetensors.torch import load_file

    net = torchvision.models.mobilenet_v2()
    stored = load_file(data_folder() / "weights" / "mobilenet_v2_imagenet.safetensors")
    net.load_state_dict({k: v.float() for k, v in stored.items()}, strict=False)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(module, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), child))
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=224, crop_pct=0.875)


def squeezenet() -> TorchBlackBox:
    """SqueezeNet 1.0, 224 px, of the data folder."""
    import torchvision
    from safetensors.torch import load_file

    net = torchvision.models.squeezenet1_0()
    stored = load_file(data_folder() / "weights" / "squeezenet1_0_imagenet.safetensors")
    net.load_state_dict({k: v.float() for k, v in stored.items()})
    return TorchBlackBox(
        net.eval(),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        size=224,
        crop_pct=0.875,
    )


def mobilenet_v1_100() -> TorchBlackBox:
    """MobileNetV1 1.0, 224 px, of the data folder."""
    import timm

    return _of_timm(timm.create_model("mobilenetv1_100", pad_type="same"), "mobilenet_v1_100", 224)


def mobilenet_v1_075() -> TorchBlackBox:
    """MobileNetV1 0.75, 192 px, of the data folder."""
    from timm.models.efficientnet import _gen_mobilenet_v1

    net = _gen_mobilenet_v1("mobilenetv1_100", 0.75, pad_type="same")
    return _of_timm(net, "mobilenet_v1_075", 192)


def efficientnet_lite0() -> TorchBlackBox:
    """EfficientNet-Lite0, 224 px, of the data folder."""
    import timm

    return _of_timm(timm.create_model("tf_efficientnet_lite0"), "efficientnet_lite0", 224)


def _of_timm(net: nn.Module, name: str, size: int) -> TorchBlackBox:
    from safetensors.torch import load_file

    stored = load_file(data_folder() / "weights" / f"{name}_imagenet.safetensors")
    net.load_state_dict({k: v.float() for k, v in stored.items()}, strict=False)
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=size, crop_pct=0.875)


MODELS = {
    "mobilenet_v2": (mobilenet_v2, "features.18"),
    "squeezenet": (squeezenet, "features.12"),
    "mobilenet_v1_100": (mobilenet_v1_100, "blocks"),
    "mobilenet_v1_075": (mobilenet_v1_075, "blocks"),
    "efficientnet_lite0": (efficientnet_lite0, "bn2"),
}
"""By name: the black box's factory, and the layer with the last feature maps, for Grad-CAM."""


@final
class Pack:
    """A data set's small JPEG images in one file, which holds each of their headers once.

    Args:
        path: The `.npz` file.
    """

    def __init__(self, path: Path) -> None:
        self._held = dict(np.load(path))
        self._heads = [
            head[:size].tobytes()
            for head, size in zip(self._held["headers"], self._held["header_len"], strict=True)
        ]

    @property
    def labels(self) -> Labels:
        """Of all images, (N,)."""
        return torch.from_numpy(self._held["labels"].astype(np.int64))

    def jpeg(self, index: int) -> bytes:
        """One image as the file that it was."""
        first, end = self._held["offsets"][index : index + 2]
        return self._heads[self._held["header_id"][index]] + self._held["body"][first:end].tobytes()

    def pixels(self, chosen: Iterable[int]) -> Tensor:
        """Some images, which are of one size: uint8 (n, 3, H, W)."""
        from PIL import Image

        rows = [
            np.asarray(Image.open(io.BytesIO(self.jpeg(index))).convert("RGB")) for index in chosen
        ]
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()


def read_cifar10(*, count: int, seed: int = 0) -> tuple[Images, Labels]:
    """`count` of the 10,000 test images of CIFAR-10 (JPEG copies), drawn without repeats: raw (n,
    3, 32, 32), labels (n,).
    """
    pack = Pack(data_folder() / "cifar10" / "test.npz")
    chosen = random.Random(seed).sample(range(len(pack.labels)), count)
    return pack.pixels(chosen).float() / 255, pack.labels[chosen]


def inside_boxes(
    boxes: Iterable[Tensor], size: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """1 inside of each image's boxes, at least a pixel for each box, (n, 1, H, W); as Quantus
    wants segmentations.
    """
    masks = []
    for corners in boxes:
        mask = np.zeros((1, *size), dtype=np.int64)
        for x0, y0, x1, y1 in corners.round().long().tolist():
            mask[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
        masks.append(mask)
    return np.stack(masks)


TINY, TINY_CLASSES = 64, range(0, 200, 10)


def tiny_vit() -> nn.Module:
    """A ViT-Tiny for 64 px: five blocks on patches of 8 pixels, 20 classes."""
    import timm

    small = {"img_size": TINY, "patch_size": 8, "embed_dim": 96, "depth": 5}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=20, **small)
    return model


def tiny_images(split: str) -> tuple[Tensor, Tensor]:
    """All images of every tenth class of Tiny-ImageNet, uint8 (n, 3, 64, 64), and labels (n,)."""
    pack = Pack(data_folder() / "tiny-imagenet-200" / f"{split}.npz")
    chosen = [i for i, label in enumerate(pack.labels.tolist()) if label in TINY_CLASSES]
    return pack.pixels(chosen), pack.labels[chosen] // 10
