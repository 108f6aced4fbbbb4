"""Encoders: feature maps of an image at several scales, for a masking network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, final

from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import FeatureReader, read_feature_maps


@final
@dataclass(frozen=True)
class Features:
    """What an encoder returns for B images.

    Attributes:
        maps: Feature maps (B, C_i, h_i, w_i), fine to coarse.
        logits: The black box's logits if they came with the features, else None.
        size: Height and width of the images in pixels.
    """

    maps: tuple[Tensor, ...]
    logits: Logits | None
    size: tuple[int, int]

    def rows(self, index: Tensor) -> "Features":
        """The features of some of the images.

        Args:
            index: (n,) int64 or (B,) bool.
        """
        logits = None if self.logits is None else self.logits[index]
        return Features(tuple(m[index] for m in self.maps), logits, self.size)

    def logits_of(self, black_box: BlackBox, images: Images) -> Logits:
        """The logits of the images: of the encoder's own pass, else by a query."""
        return black_box(images) if self.logits is None else self.logits


class Encoder(nn.Module, ABC):
    """From images to feature maps at several scales.

    Attributes:
        kind: The name in files: `trunk`, `network`, `own`.
        channels: C of each map, fine to coarse.
        sides: Height and width of each map for the images it was made for.
        trained: Are its weights trained with the masking network (and stored in its file)?
    """

    kind: str
    channels: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]
    trained: bool = False

    @abstractmethod
    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The features of images.

        Args:
            black_box: The classifier; encoders that read the images themselves do not query it.
            images: (B, C, H, W), as the black box takes them.
        """

    def reader(self, black_box: BlackBox) -> Callable[[Images], Features]:
        """`encode`, for many batches of a black box that does not change meanwhile.

        Args:
            black_box: As for `encode`.
        """
        return partial(self.encode, black_box)

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON."""


@final
class TrunkEncoder(Encoder):
    """The black box's own feature maps, read while it classifies: logits and mask in one pass.

    Keeps no part of the black box: layers are found by name in the one that is queried, which must
    have the same architecture.

    Args:
        feature_maps: Fine to coarse; the class selector reads the last.

    Raises:
        InputError: There is no feature map.

    References:
        Ours; the paper uses a separate encoder. Similar: Ntrougkas et al. 2022, "TAME".
    """

    kind = "trunk"

    def __init__(self, feature_maps: Sequence[FeatureMap]) -> None:
        super().__init__()
        if not feature_maps:
            raise InputError(
                "TrunkEncoder needs at least one feature map, fine to coarse; see masking_network."
            )
        self.feature_maps = tuple(feature_maps)
        self.channels = tuple(feature_map.channels for feature_map in feature_maps)
        self.sides = tuple(feature_map.side for feature_map in feature_maps)

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """One pass of the black box.

        Raises:
            InputError: The black box has no torch module inside, or not these layers.
        """
        read = read_feature_maps(black_box, images, self.feature_maps)
        return self._features(black_box, images, *read)

    def reader(self, black_box: BlackBox) -> Callable[[Images], Features]:
        """`encode`, with the copy of the black box whose layers are read made once."""
        return partial(self._read, FeatureReader(black_box, self.feature_maps))

    def _read(self, reader: FeatureReader, images: Images) -> Features:
        return self._features(reader.black_box, images, *reader(images))

    def _features(
        self, black_box: BlackBox, images: Images, logits: Logits, maps: tuple[Tensor, ...]
    ) -> Features:
        for feature_map, read in zip(self.feature_maps, maps, strict=True):
            if read.shape[1] != feature_map.channels:
                raise InputError(
                    f"layer {feature_map.name!r} of {name_of(black_box.module)} has "
                    f"{read.shape[1]} channels, and the masker was trained on another "
                    f"model, with {feature_map.channels}. Train a masker for it with "
                    "fit(model, images)."
                )
        return Features(maps, logits, (images.shape[2], images.shape[3]))

    def options(self) -> dict[str, Any]:
        """The feature maps."""
        return {"feature_maps": [asdict(feature_map) for feature_map in self.feature_maps]}


@final
class StandaloneEncoder(Encoder):
    """A small encoder that is trained from scratch with the masking network: the paper's for
    CIFAR-10.

    Stages of 3x3 convolutions with batch norm; all but the first halve the side. Takes raw pixels
    in [0, 1].

    Args:
        widths: Channels of the stages, fine to coarse.
        depth: Convolutions per stage, >= 1; five in the paper.
        stem: Stride of the first stage, >= 1: 1 for small images, 4 for 224 px.
        size: Height and width of the images it is made for.
        channels_in: Channels of the images.

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
                f"StandaloneEncoder(widths={tuple(widths)}, depth={depth}, stem={stem}): all of "
                "them must be >= 1."
            )
        self.channels, self.depth, self.stem = tuple(widths), depth, stem
        self.size, self.channels_in = tuple(size), channels_in
        self.stages = nn.ModuleList()
        side, sides, before = (size[0], size[1]), [], channels_in
        for number, width in enumerate(widths):
            layers: list[nn.Module] = []
            stride = stem if number == 0 else 2
            side = (-(-side[0] // stride), -(-side[1] // stride))
            for _ in range(depth):
                convolution = nn.Conv2d(before, width, 3, stride, 1, bias=False)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                before, stride = width, 1
            self.stages.append(nn.Sequential(*layers))
            sides.append(side)
        self.sides = tuple(sides)

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The outputs of the stages; the black box is not queried."""
        x = (images - 0.5) * 4
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return Features(tuple(maps), None, (images.shape[2], images.shape[3]))

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("depth", "stem", "size", "channels_in")
        return {"widths": self.channels} | {name: getattr(self, name) for name in names}


def default_stride(size: Sequence[int]) -> int:
    """Pixels of the image per pixel of the mask: 4 (the paper's) from 128 px on, 2 from 48, else 1.

    Args:
        size: Height and width of the images.
    """
    return 4 if min(size) >= 128 else 2 if min(size) >= 48 else 1
