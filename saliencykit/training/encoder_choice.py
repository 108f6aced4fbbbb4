"""A network of the user's choice as the encoder of a masker, for any black box."""

from typing import Any

import torch
from torch import nn

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError
from saliencykit.maskers.realtime.encoder import Encoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork, fit_filters
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder, is_text
from saliencykit.registry.coerce import as_black_box
from saliencykit.training.cache import Views
from saliencykit.training.stand_in import make_stand_in

_CHUNK = 16


def chosen_encoder(encoder: object, black_box: BlackBox) -> "str | Encoder | BlackBox":
    """The encoder that an argument of `fit` names: one of `masking_network`'s, or a network.

    Args:
        encoder: See `fit`.
        black_box: The classifier.

    Raises:
        GradientError: The classifier can only be queried, and the encoder is no network.
    """
    if isinstance(encoder, nn.Module) and not isinstance(encoder, Encoder):
        encoder = as_black_box(encoder)
    if isinstance(encoder, str) and (":" in encoder or "/" in encoder) and not is_text(encoder):
        encoder = as_black_box(encoder)  # a model's name, with options or of a plugin
    network = isinstance(encoder, BlackBox | PretrainedEncoder) or is_text(encoder)
    if not (black_box.differentiable or network or encoder == "paper"):
        raise GradientError(
            f"fit needs gradients and {name_of(black_box)} is query-only. Give a network to read "
            "the images with, fit(model, images, encoder='timm:resnet18'); or train a "
            "differentiable surrogate first, surrogate = fit_surrogate(model, images), and then "
            "fit(surrogate, images); on the command line `saliencykit fit-surrogate`."
        )
    assert isinstance(encoder, str | Encoder | BlackBox)
    return encoder


def prepare_encoder(
    network: MaskingNetwork, black_box: BlackBox, views: Views, alternative: Alternative, new: bool
) -> tuple[BlackBox, dict[str, Any] | None]:
    """Set the class filters of a network with a frozen encoder, and find what to train it on.

    Args:
        network: Changed in place if it is new.
        black_box: The classifier; it is queried with the views.
        views: Of training images, 512 or fewer.
        alternative: What replaces pixels.
        new: Is the network untrained?

    Returns:
        The classifier, or where it can only be queried a stand-in, with facts about that.
    """
    if not isinstance(network.encoder, PretrainedEncoder):
        return black_box, None
    if new:
        index = torch.split(torch.arange(len(views), device="cpu"), _CHUNK)
        fit_filters(network, black_box, (views.images(i).to(black_box.device) for i in index))
    if black_box.differentiable:
        return black_box, None
    return make_stand_in(black_box, network.encoder, views, alternative)
