"""A trained masking network as one file: safetensors with a JSON header."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.decoder import Bottleneck, Decoder, UNet
from saliencykit.maskers.realtime.encoder import (
    Encoder,
    PretrainedEncoder,
    StandaloneEncoder,
    TrunkEncoder,
)
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.storage.weights_file import WeightsFile

_Part = TypeVar("_Part")
_FILES = WeightsFile("masker", 1, "fit", "a classifier's weights go to checkpoint=")


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
        },
        "decoder": {"kind": decoder.kind} | decoder.options(),
        "confidence": confidence,
        "metadata": dict(metadata),
    }
    stored = encoder.trained or (isinstance(encoder, PretrainedEncoder) and not encoder.pretrained)
    weights = network.state_dict()
    _FILES.write(
        path, {n: t for n, t in weights.items() if stored or not n.startswith("encoder.")}, header
    )


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a masker's file, without the weights.

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, or it is not a masker's file in a known format.
    """
    return _FILES.header(path)


def read_network(path: Path) -> tuple[MaskingNetwork, float, dict[str, Any]]:
    """Read a network, its confidence and its metadata.

    Class filters that belong to the classifier's head are zero until they are read from it.

    Args:
        path: What `write_network` wrote.

    Raises:
        InputError: The file is not a masker's file that this version reads.
    """
    header = read_header(path)
    try:
        encoder = _build(_ENCODERS, header["encoder"])
        filters = header["selector"]
        classes = torch.zeros(filters["num_classes"])
        selector = ClassFilters(
            torch.zeros(len(classes), filters["channels"]),
            classes,
            trained=filters["own"],
            layer=filters["layer"],
        )
        decoder = _build(_DECODERS, header["decoder"])
        network = MaskingNetwork(encoder, selector, decoder).eval()
        confidence, metadata = float(header["confidence"]), dict(header["metadata"])
        weights = {n: t.float() if t.is_floating_point() else t for n, t in load_file(path).items()}
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the masker in {str(path)!r} is damaged: {type(error).__name__}: {error}."
        ) from error
    missing = [n for n in missing if encoder.trained or not n.startswith("encoder.")]
    if missing or unexpected:
        raise InputError(
            f"the masker in {str(path)!r} is damaged: missing {missing[:3]}, unexpected "
            f"{unexpected[:3]}."
        )
    return network, confidence, metadata


def _trunk(feature_maps: list[dict[str, Any]]) -> TrunkEncoder:
    return TrunkEncoder([FeatureMap(**{**f, "side": tuple(f["side"])}) for f in feature_maps])


_ENCODERS: dict[str, Callable[..., Encoder]] = {
    "trunk": _trunk,
    "own": StandaloneEncoder,
    "paper": PretrainedEncoder,
}
_DECODERS: dict[str, Callable[..., Decoder]] = {"unet": UNet, "bottleneck": Bottleneck}


def _build(classes: Mapping[str, Callable[..., _Part]], options: Mapping[str, Any]) -> _Part:
    """The object that a `kind` and its options describe."""
    return classes[options["kind"]](**{k: v for k, v in options.items() if k != "kind"})
