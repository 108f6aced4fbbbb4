"""Binding a masking network to the model that it was trained for: its weights, layers and head."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.encoder import TrunkEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.networks.classifier_head import class_weights, find_classifier_head
from saliencykit.networks.feature_pyramid import feature_pyramid
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.networks.module_layers import module_of


def bound_network(
    network: MaskingNetwork, black_box: BlackBox, metadata: Mapping[str, Any]
) -> MaskingNetwork:
    """A copy of a network for a black box, with class filters from its head.

    Args:
        network: Trained for a model with these weights.
        black_box: The classifier.
        metadata: Of the training: the model's fingerprint, and the size of the images.

    Raises:
        InputError: The black box has no such layers or no such head.
    """
    warn_of_other_weights(metadata, black_box)
    network = copy.deepcopy(network)
    if isinstance(network.encoder, TrunkEncoder):
        names = dict(module_of(black_box).named_modules())
        if any(feature_map.name not in names for feature_map in network.encoder.feature_maps):
            _find_layers_again(network, black_box, metadata.get("size"))
    read_head(network, black_box)
    if black_box.against is not None:
        if not isinstance(network.selector, ClassFilters):
            raise InputError(
                "this masker's class selector has no filters to contrast; use masker='cam'."
            )
        network.selector.against = black_box.against
    return network


def warn_of_other_weights(metadata: Mapping[str, Any], black_box: BlackBox) -> None:
    """Warn where the masker was trained for other weights than those of the black box."""
    expected, got = metadata.get("fingerprint"), fingerprint(black_box)
    # a black box that does not expose its module has no fingerprint
    if None not in (expected, got) and expected != got:
        warnings.warn(
            f"this masker was trained for another model than {black_box!r} (the weights differ); "
            "its masks may be meaningless. Train a masker for it with fit(model, images).",
            stacklevel=4,
        )


def read_head(network: MaskingNetwork, black_box: BlackBox) -> None:
    """Read the class filters from the head of the classifier, unless they were trained."""
    selector = network.selector
    if isinstance(selector, ClassFilters) and not selector.trained:
        layer, output = selector.layer or "", black_box.output
        selector.read_from(*class_weights(module_of(black_box), layer, output))
        network.to(black_box.device)


def _find_layers_again(network: MaskingNetwork, black_box: BlackBox, size: Any) -> None:
    """Find the same layers under other names, as in torchvision's and timm's forms of one
    architecture.
    """
    encoder, selector = network.encoder, network.selector
    if not isinstance(encoder, TrunkEncoder) or not isinstance(selector, ClassFilters) or not size:
        return
    shape = (2, 3, int(size[0]), int(size[1]))
    probe = torch.full(shape, 0.5, device=black_box.device, dtype=torch.float32)
    probe[1, :, : probe.shape[2] // 2] = 0.2
    head = find_classifier_head(black_box, probe)
    feature_maps = feature_pyramid(black_box, probe, encoder.sides[0], head.feature_map)
    found = [(each.channels, each.side) for each in feature_maps]
    wanted = [(each.channels, each.side) for each in encoder.feature_maps]
    if found != wanted or head.exact == selector.trained:
        expected = ", ".join(each.name for each in encoder.feature_maps)
        raise InputError(
            f"{black_box!r} lacks layers that this masker was trained on: {expected}. Train a "
            "masker for it with fit(model, images)."
        )
    encoder.feature_maps, selector.layer = feature_maps, head.layer
