"""Encoder: what a masking network sees of a picture."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import first_line, name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import read_feature_maps


@final
@dataclass(frozen=True)
class Features:
    """What an encoder says of B pictures.

    Attributes:
        maps: Feature maps (B, C_i, h_i, w_i), fine to coarse.
        logits: The black box's answer, where it was made on the way, else None.
        size: Height and width of the pictures in pixels.
    """

    maps: tuple[Tensor, ...]
    logits: Logits | None
    size: tuple[int, int]

    def rows(self, index: Tensor) -> "Features":
        """The features of some of the pictures.

        Args:
            index: (n,) int64 or (B,) bool.
        """
        return Features(
            tuple(m[index] for m in self.maps),
            None if self.logits is None else self.logits[index],
            self.size,
        )


class Encoder(nn.Module, ABC):
    """Pictures to feature maps at several scales.

    Attributes:
        kind: Its name in files: `trunk`, `paper`, `own`.
        channels: C of each map, fine to coarse.
        sides: Height and width of each map for the pictures it was made for.
        trained: Are its weights trained with the masking network (and stored in its file)?
    """

    kind: str
    channels: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]
    trained: bool = False

    @abstractmethod
    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The features of pictures.

        Args:
            black_box: The classifier; an encoder that looks at the pictures itself does not ask it.
            images: (B, C, H, W), as the box takes them.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What makes the same encoder again, as JSON."""


@final
class TrunkEncoder(Encoder):
    """The black box's own feature maps, read while it answers: logits and mask in one pass.

    Nothing of the box is kept: its layers are found by name in whatever box is asked about, which
    must be of the same architecture.

    Args:
        feature_maps: Fine to coarse; the last is what the selector looks at.

    Raises:
        InputError: There is no tap.

    References:
        Ours; the paper has an encoder of its own. A similar sharing: Ntrougkas et al. 2022, "TAME".
    """

    kind = "trunk"

    def __init__(self, feature_maps: Sequence[FeatureMap]) -> None:
        super().__init__()
        if not feature_maps:
            raise InputError("a Trunk needs at least one tap; maskers.taps.pyramid finds them.")
        self.feature_maps = tuple(feature_maps)
        self.channels = tuple(feature_map.channels for feature_map in feature_maps)
        self.sides = tuple(feature_map.side for feature_map in feature_maps)

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """One pass of the box.

        Raises:
            InputError: The box has no torch module inside, or not these layers.
        """
        logits, maps = read_feature_maps(black_box, images, self.feature_maps)
        for feature_map, read in zip(self.feature_maps, maps, strict=True):
            if read.shape[1] != feature_map.channels:
                raise InputError(
                    f"layer {feature_map.name!r} of {name_of(black_box.module)} has {read.shape[1]} "
                    f"channels, and the masker was made for {feature_map.channels}: another model. Train "
                    "one with fit(model, pictures)."
                )
        return Features(maps, logits, (images.shape[2], images.shape[3]))

    def options(self) -> dict[str, Any]:
        """The taps."""
        return {
            "feature_maps": [
                {
                    "name": t.name,
                    "layout": t.layout,
                    "channels": t.channels,
                    "side": t.side,
                    "prefix": t.prefix,
                }
                for t in self.feature_maps
            ]
        }


@final
class StandaloneEncoder(Encoder):
    """A small encoder that is trained from nothing together with the rest: the paper's for
    CIFAR-10.

    Stages of 3x3 convolutions with batch norm; each but the first halves the sides. Takes raw
    pixels in [0, 1].

    Args:
        widths: Channels of the stages, fine to coarse.
        depth: Convolutions a stage, >= 1; five in the paper.
        stem: The stride of the first stage, >= 1: 1 for small pictures, 4 for 224 px.
        size: Height and width of the pictures it is made for.
        channels_in: Channels of the pictures.

    Raises:
        InputError: A number is out of range.

    References:
        Dabkowski & Gal 2017, section 4 (CIFAR-10): three downsampling blocks of five convolutions,
        not pretrained.
    """

    kind = "own"
    trained = True

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96, 128),
        depth: int = 2,
        stem: int = 1,
        size: tuple[int, int] = (32, 32),
        channels_in: int = 3,
    ) -> None:
        super().__init__()
        if min(*widths, depth, stem) < 1:
            raise InputError(
                f"Own(widths={tuple(widths)}, depth={depth}, stem={stem}): all are >= 1."
            )
        self.channels, self.depth, self.stem, self.size, self.channels_in = (
            tuple(widths),
            depth,
            stem,
            tuple(size),
            channels_in,
        )
        self.stages = nn.ModuleList()
        side, sides, before = (size[0], size[1]), [], channels_in
        for number, width in enumerate(widths):
            layers: list[nn.Module] = []
            for layer in range(depth):
                stride = (stem if number == 0 else 2) if layer == 0 else 1
                layers += [
                    nn.Conv2d(before, width, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                side = (-(-side[0] // stride), -(-side[1] // stride))
                before = width
            self.stages.append(nn.Sequential(*layers))
            sides.append(side)
        self.sides = tuple(sides)

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The stages' outputs; the box is not asked."""
        x = (images - 0.5) * 4
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return Features(tuple(maps), None, (images.shape[2], images.shape[3]))

    def options(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "widths": self.channels,
            "depth": self.depth,
            "stem": self.stem,
            "size": self.size,
            "channels_in": self.channels_in,
        }


@final
class PretrainedEncoder(Encoder):
    """A separate backbone, pretrained on ImageNet and frozen, for boxes that show no features; the
    paper's is a ResNet-50.

    Takes raw pixels in [0, 1] and normalises them as the backbone wants it.

    Args:
        backbone: A model of timm with a feature interface.
        pretrained: Download its weights, or take them from the cache. False: random, always the
            same ones (for tests and timings).
        size: Height and width of the pictures it is made for.

    Raises:
        InputError: timm is not installed, has no such backbone, or its weights cannot be had.

    References:
        Dabkowski & Gal 2017, section 4 (ResNet-50, scales 112 to 7 for 224 px).
    """

    kind = "paper"

    def __init__(
        self,
        backbone: str = "resnet50",
        pretrained: bool = True,
        size: tuple[int, int] = (224, 224),
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise InputError(
                "the paper's encoder is a backbone of timm; pip install 'saliencykit[timm]'."
            ) from None
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.backbone = timm.create_model(
                    backbone, pretrained=pretrained, features_only=True
                )
        except Exception as error:
            raise InputError(
                f"Paper(backbone={backbone!r}, pretrained={pretrained}): {first_line(error)}. "
                "Without a network write encoder='own', or Paper(pretrained=False) for random "
                "weights."
            ) from error
        self.backbone.eval().requires_grad_(False)
        self.name, self.pretrained, self.size = backbone, pretrained, (size[0], size[1])
        config = cast("dict[str, Any]", self.backbone.pretrained_cfg)
        self.register_buffer(
            "mean", torch.tensor(config.get("mean", (0.5,) * 3)).view(1, -1, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(config.get("std", (0.5,) * 3)).view(1, -1, 1, 1), persistent=False
        )
        with torch.no_grad():
            maps = self.backbone(torch.zeros(1, 3, *size))
        self.channels = tuple(m.shape[1] for m in maps)
        self.sides = tuple((m.shape[2], m.shape[3]) for m in maps)

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """The backbone stays in eval mode: its batch norms keep their statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The backbone's outputs; the box is not asked."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return Features(
            tuple(self.backbone((images - mean) / std)), None, (images.shape[2], images.shape[3])
        )

    def options(self) -> dict[str, Any]:
        """The arguments."""
        return {"backbone": self.name, "pretrained": self.pretrained, "size": self.size}
