"""A trained masking network as one file: safetensors with a JSON header."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import torch
from msgspec import Meta, Struct, convert
from msgspec.structs import asdict

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.bottleneck_decoder import Bottleneck
from saliencykit.maskers.realtime.box_threshold import BoxThreshold
from saliencykit.maskers.realtime.decoder import Decoder
from saliencykit.maskers.realtime.encoder import Encoder, StandaloneEncoder, TrunkEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.pretrained_encoder import TIMM_TEXT, PretrainedEncoder
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.maskers.realtime.unet_decoder import UNet
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.storage.tensor_file import fill
from saliencykit.storage.typed_json import MAX_PIXELS, Facts, Finite
from saliencykit.storage.weights_file import WeightsFile

_Channels: TypeAlias = Annotated[int, Meta(ge=1, le=2**16)]
_Few: TypeAlias = Annotated[int, Meta(ge=1, le=64)]  # layers of a stage, a stride
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=2**13)]
_Size: TypeAlias = tuple[_Side, _Side]
_Positions: TypeAlias = Annotated[float, Meta(ge=-64, le=64)]
_Widths: TypeAlias = Annotated[tuple[_Channels, ...], Meta(min_length=1, max_length=32)]
_Sides: TypeAlias = Annotated[tuple[_Size, ...], Meta(min_length=1, max_length=32)]


class _Trunk(Struct, tag_field="kind", tag="trunk"):
    feature_maps: Annotated[tuple[FeatureMap, ...], Meta(min_length=1, max_length=32)]

    def build(self, given: BlackBox | None) -> Encoder:
        return TrunkEncoder(self.feature_maps)


class _Own(Struct, tag_field="kind", tag="own"):
    widths: _Widths
    depth: _Few
    stem: _Few
    size: _Size
    channels_in: _Channels

    def build(self, given: BlackBox | None) -> Encoder:
        with torch.device("meta"):
            return StandaloneEncoder(**asdict(self))


class _Network(Struct, tag_field="kind", tag="network"):
    network: Annotated[str, Meta(pattern=rf"^{TIMM_TEXT}\Z")] | None
    size: _Size
    feature_maps: Annotated[tuple[FeatureMap, ...], Meta(min_length=1, max_length=32)]
    fingerprint: str | None

    def build(self, given: BlackBox | None) -> Encoder:
        network = given or self.network
        if network is None:
            raise InputError(
                "its encoder is a network of your own, whose weights it does not hold; write "
                "RealTimeMasker.load(path, encoder=TorchBlackBox(network, mean=..., std=..., "
                "size=...))."
            )
        return PretrainedEncoder(
            network, self.size, feature_maps=self.feature_maps, fingerprint=self.fingerprint
        )


class _UNet(Struct, tag_field="kind", tag="unet"):
    channels: _Widths
    sides: _Sides
    side: _Size
    widths: _Widths
    offset: tuple[_Positions, _Positions] = (0.0, 0.0)

    def build(self) -> Decoder:
        return UNet(**asdict(self))


class _Bottleneck(Struct, tag_field="kind", tag="bottleneck"):
    channels: _Widths
    sides: _Sides
    side: _Size
    width: _Channels
    blocks: _Few

    def build(self) -> Decoder:
        return Bottleneck(**asdict(self))


class _Filters(Struct):
    own: bool
    num_classes: Annotated[int, Meta(ge=1, le=2**20)]
    layer: str | None
    channels: _Channels
    exclusive: bool = True

    def __post_init__(self) -> None:
        if self.num_classes * self.channels > MAX_PIXELS:
            raise ValueError(f"expected fewer than {MAX_PIXELS} class weights")

    def build(self) -> ClassFilters:
        classes = torch.zeros(self.num_classes, dtype=torch.float32, device="cpu")
        weight = torch.zeros(self.num_classes, self.channels, dtype=torch.float32, device="cpu")
        return ClassFilters(
            weight, classes, trained=self.own, layer=self.layer, exclusive=self.exclusive
        )


class _Known(Struct):
    """What the library reads of the metadata."""

    fingerprint: str | None = None
    values: int | None = None
    size: _Size | None = None
    training: Facts | None = None
    validation: Facts | None = None
    certificate: Facts | None = None


class _Header(Struct):
    encoder: _Trunk | _Own | _Network
    selector: _Filters
    decoder: _UNet | _Bottleneck
    confidence: Finite
    metadata: Facts
    box_threshold: bool = False

    def __post_init__(self) -> None:
        convert(self.metadata, _Known)


_FILES = WeightsFile("masker", 1, _Header, "fit", "a classifier's weights go to checkpoint=")


def write_network(
    path: Path, network: MaskingNetwork, confidence: float, metadata: Mapping[str, Any]
) -> None:
    """Write weights and header; an existing file is replaced atomically.

    The header has the number of the format, the configuration of the network, and the metadata.
    Weights that belong to the classifier (its trunk, its head) are not stored.

    Args:
        path: The file.
        network: The trained network.
        confidence: See `RealTimeMasker`.
        metadata: See `RealTimeMasker`.

    Raises:
        InputError: The network has parts that are not the package's own.
        SaliencyKitError: The file cannot be written.
    """
    encoder, selector, decoder = network.encoder, network.selector, network.decoder
    if (
        not isinstance(encoder, TrunkEncoder | StandaloneEncoder | PretrainedEncoder)
        or not isinstance(selector, ClassFilters)
        or not isinstance(decoder, UNet | Bottleneck)
    ):
        raise InputError(
            "a masker can be saved if its network has a TrunkEncoder, StandaloneEncoder or "
            "PretrainedEncoder, ClassFilters, and a UNet or Bottleneck; got "
            f"{name_of(encoder)}, {name_of(selector)}, {name_of(decoder)}. Save "
            "masker.network.state_dict() instead."
        )
    header = {
        "encoder": {"kind": encoder.kind} | encoder.options(),
        "selector": {
            "own": selector.trained,
            "num_classes": selector.num_classes,
            "layer": selector.layer,
            "channels": encoder.channels[-1],
            "exclusive": selector.exclusive,
        },
        "decoder": {"kind": decoder.kind} | decoder.options(),
        "confidence": confidence,
        "metadata": dict(metadata),
        "box_threshold": network.box_threshold is not None,
    }
    _FILES.write(path, network.state_dict(), header)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a masker's file, without the weights.

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, or it is not a masker's file in a known format.
    """
    return _FILES.header(path).metadata


def read_network(
    path: Path, encoder: BlackBox | None = None
) -> tuple[MaskingNetwork, float, dict[str, Any]]:
    """Read a network, its confidence and its metadata.

    Class filters that belong to the classifier's head are zero until they are read from it.

    Args:
        path: What `write_network` wrote.
        encoder: The network of its encoder, where that is one of the user's own.

    Raises:
        InputError: The file is not a masker's file that this version reads, or the network of its
            encoder cannot be had.
    """
    header, weights = _FILES.read(path)
    where = f"the masker in {str(path)!r}"
    try:
        made = header.encoder.build(encoder)
    except InputError as error:
        raise InputError(f"{where} cannot be used: {error}") from error
    selector = header.selector.build()
    try:
        with torch.device("meta"):
            decoder = header.decoder.build()
    except (RuntimeError, ValueError) as error:  # numbers that do not fit each other
        raise InputError(f"{where} is damaged: its decoder {header.decoder}: {error}") from error
    parts = (made.channels, made.sides, made.channels[-1])
    if parts != (header.decoder.channels, header.decoder.sides, header.selector.channels):
        raise InputError(f"{where} is damaged: its encoder, selector and decoder do not fit.")
    network = MaskingNetwork(made, selector, decoder).eval()
    network.box_threshold = BoxThreshold() if header.box_threshold else None
    fill(network, weights, where, "" if made.trained else "encoder.")
    return network, header.confidence, header.metadata
