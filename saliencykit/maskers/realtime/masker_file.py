"""A trained masker as one file: safetensors with a JSON header."""

import copy
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.maskers.realtime.decoder import Bottleneck, Decoder, UNet
from saliencykit.maskers.realtime.encoder import (
    Encoder,
    PretrainedEncoder,
    StandaloneEncoder,
    TrunkEncoder,
)
from saliencykit.maskers.realtime.masking_network import MaskingNetwork, trunk_feature_maps
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.networks.classifier_head import class_weights, find_classifier_head
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.model_fingerprint import count_values, fingerprint
from saliencykit.networks.module_layers import module_of
from saliencykit.storage.weights_file import WeightsFile

if TYPE_CHECKING:
    from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker

_FILES = WeightsFile("masker", 1, "fit", "a classifier's weights go to checkpoint=")


def save_masker(masker: "RealTimeMasker", path: Path) -> Path:
    """Write weights and header; a file that is there is replaced at once or not at all.

    The header holds the format's number, the network's configuration, the fingerprint of the box,
    and what training and gate said. Weights that belong to the box (its trunk, its head's rows) are
    not stored.

    Args:
        masker: What is kept.
        path: The file.

    Returns:
        The path.

    Raises:
        InputError: The network has parts that are not the package's own.
        SaliencyKitError: The file cannot be written.
    """
    network = masker.network
    encoder, selector, decoder = network.encoder, network.selector, network.decoder
    if (
        not isinstance(encoder, TrunkEncoder | StandaloneEncoder | PretrainedEncoder)
        or not isinstance(selector, ClassFilters)
        or not isinstance(decoder, UNet | Bottleneck)
    ):
        raise InputError(
            "RealTimeMasker.save writes networks of Trunk, Own or Paper, of Rows, and of UNet or "
            f"Bottleneck; this one is of {name_of(encoder)}, {name_of(selector)}, "
            f"{name_of(decoder)}. Keep masker.network.state_dict() yourself."
        )
    header = {
        "encoder": {"kind": encoder.kind} | encoder.options(),
        "selector": {
            "own": selector.own,
            "num_classes": selector.num_classes,
            "layer": selector.layer,
            "channels": encoder.channels[-1],
        },
        "decoder": {"kind": decoder.kind} | decoder.options(),
        "confidence": masker.confidence,
        "metadata": dict(masker.metadata),
    }
    stored = isinstance(encoder, StandaloneEncoder) or (
        isinstance(encoder, PretrainedEncoder) and not encoder.pretrained
    )
    weights = {
        n: t for n, t in network.state_dict().items() if stored or not n.startswith("encoder.")
    }
    _FILES.write(path, weights, header)
    return path


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a masker's file; no weights are read.

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, it is damaged, it holds no masker, or its format is not
            known.
    """
    return _FILES.header(path)


def load_masker(path: Path, black_box: BlackBox | None = None) -> "RealTimeMasker":
    """Read a masker.

    Args:
        path: What `save` wrote.
        black_box: The box to bind it to. A masker whose selector is the box's own head must be
            given one before it is used.

    Raises:
        InputError: The file is not a masker that this version reads, or the box is of another
            architecture.

    Warns:
        UserWarning: The box is not the one that the masker was trained for.
    """
    from safetensors.torch import load_file

    from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker

    header = read_header(path)
    try:
        encoder = _encoder(header["encoder"])
        rows = header["selector"]
        blank = torch.zeros(rows["num_classes"], rows["channels"])
        selector = ClassFilters(
            blank, torch.zeros(rows["num_classes"]), own=rows["own"], layer=rows["layer"]
        )
        decoder = _decoder(header["decoder"])
        network = MaskingNetwork(encoder, selector, decoder)
        confidence, facts = float(header["confidence"]), dict(header["metadata"])
        weights = {n: t.float() if t.is_floating_point() else t for n, t in load_file(path).items()}
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the masker in {str(path)!r} is damaged: {type(error).__name__}: {error}."
        ) from error
    lost = [
        n for n in missing if not n.startswith("encoder.") or isinstance(encoder, StandaloneEncoder)
    ]
    if lost or unexpected:
        raise InputError(
            f"the masker in {str(path)!r} is damaged: missing {lost[:3]}, unexpected "
            f"{list(unexpected)[:3]}."
        )
    masker = RealTimeMasker(network=network.eval(), confidence=confidence, metadata=facts)
    return masker if black_box is None else attach(masker, black_box)


def attach(masker: "RealTimeMasker", black_box: BlackBox) -> "RealTimeMasker":
    """A copy of the masker with the head's rows of this box, bound to it.

    Args:
        masker: Left as it is.
        black_box: The box that it will be asked about.

    Raises:
        InputError: The box is of another architecture.

    Warns:
        UserWarning: It was trained for another box.
    """
    wanted, given = masker.metadata.get("fingerprint"), fingerprint(black_box)
    if (
        None not in (wanted, given) and wanted != given
    ):  # a box that shows no module cannot be told from another
        warnings.warn(
            f"this masker was trained for another model than {black_box!r} (its weights differ); "
            "its masks may say little. Train one with fit(model, pictures).",
            stacklevel=4,
        )
    masker = replace(masker, network=copy.deepcopy(masker.network))
    encoder, selector = masker.network.encoder, masker.network.selector
    if isinstance(encoder, TrunkEncoder):
        names = dict(module_of(black_box).named_modules())
        if any(feature_map.name not in names for feature_map in encoder.feature_maps):
            _find_again(masker.network, black_box, masker.metadata.get("size"))
    if isinstance(selector, ClassFilters) and not selector.own:
        selector.read_from(*class_weights(module_of(black_box), selector.layer or ""))
        masker.network.to(black_box.device)
    return masker.bind(black_box)


def _find_again(network: MaskingNetwork, black_box: BlackBox, size: Any) -> None:
    """The same layers in another form of the architecture (torchvision's and timm's, say), where
    they have other names.
    """
    encoder, selector = network.encoder, network.selector
    if not isinstance(encoder, TrunkEncoder) or not isinstance(selector, ClassFilters) or not size:
        return
    gray = torch.full((2, 3, int(size[0]), int(size[1])), 0.5, device=black_box.device)
    gray[1, :, : gray.shape[2] // 2] = 0.2
    head = find_classifier_head(black_box, gray)
    feature_maps = trunk_feature_maps(black_box, gray, head, encoder.sides[0])
    if [(feature_map.channels, feature_map.side) for feature_map in feature_maps] != [
        (feature_map.channels, feature_map.side) for feature_map in encoder.feature_maps
    ] or head.exact == selector.own:
        wanted = ", ".join(feature_map.name for feature_map in encoder.feature_maps)
        raise InputError(
            f"{black_box!r} lacks the layers that this masker was trained on: {wanted}. Train one "
            "with fit(model, pictures)."
        )
    encoder.feature_maps, selector.layer = feature_maps, head.layer


@final
@dataclass(frozen=True)
class TrainedFile(TrainedMaskerFactory):
    """A trained masker on disk that plugins provide by name: a factory of RealTimeMaskers that
    knows for which box it was made.

    Args:
        path: The safetensors file.
    """

    path: Path

    @property
    def header(self) -> dict[str, Any]:
        """Its JSON header."""
        return read_header(self.path)

    def fits(self, black_box: BlackBox) -> bool:
        """Was it trained for exactly these weights?

        Args:
            black_box: The box whose model is compared, by its size and then by its fingerprint.
        """
        facts = self.header["metadata"]
        if not facts.get("fingerprint") or facts.get("values") != count_values(black_box):
            return False
        return bool(facts["fingerprint"] == fingerprint(black_box))

    def __call__(self) -> "RealTimeMasker":
        """The masker, to be bound when it meets its box."""
        return load_masker(self.path)


def _encoder(options: dict[str, Any]) -> Encoder:
    kind = options.pop("kind")
    if kind == "trunk":
        feature_maps = [
            FeatureMap(
                t["name"], t["layout"], t["channels"], (t["side"][0], t["side"][1]), t["prefix"]
            )
            for t in options["feature_maps"]
        ]
        return TrunkEncoder(feature_maps)
    if kind == "own":
        return StandaloneEncoder(**options)
    if kind == "paper":
        return PretrainedEncoder(**options)
    raise ValueError(f"no encoder is called {kind!r}")


def _decoder(options: dict[str, Any]) -> Decoder:
    kind = options.pop("kind")
    if kind not in ("unet", "bottleneck"):
        raise ValueError(f"no decoder is called {kind!r}")
    return UNet(**options) if kind == "unet" else Bottleneck(**options)
