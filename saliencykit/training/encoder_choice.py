"""Which network a training starts with: the user's encoder, for any black box."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.realtime.encoder import Encoder
from saliencykit.maskers.realtime.masking_network import (
    MaskingNetwork,
    fit_filters,
    masking_network,
)
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder, is_text
from saliencykit.registry.coerce import as_black_box
from saliencykit.training.cache import make_views
from saliencykit.training.image_split import ImageSplit
from saliencykit.training.stand_in import make_stand_in

_MOST = 512  # views by which class filters and stand-in are made
_CHUNK = 16


def chosen_encoder(encoder: object, black_box: BlackBox) -> "str | Encoder | BlackBox":
    """The encoder that an argument of `fit` names: one of `masking_network`'s, or a network.

    Args:
        encoder: See `fit`.
        black_box: The classifier.

    Raises:
        InputError: The argument is neither.
        GradientError: The classifier can only be queried, and the encoder is no network.
    """
    if not isinstance(encoder, str | Encoder | BlackBox | nn.Module):
        raise InputError(
            f"fit got encoder={encoder!r}; expected 'auto', 'trunk', 'paper', 'own', a network's "
            "name such as 'timm:resnet18', a torch module, a BlackBox or an Encoder."
        )
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


@final
@dataclass(frozen=True)
class Start:
    """What a training starts with.

    Attributes:
        network: The masking network.
        black_box: The classifier that it is trained on: the user's, or a stand-in.
        facts: About the stand-in; None without one.
    """

    network: MaskingNetwork
    black_box: BlackBox
    facts: dict[str, Any] | None


def start_with(
    network: MaskingNetwork | None,
    encoder: "str | Encoder | BlackBox",
    black_box: BlackBox,
    data: ImageSplit,
    alternative: Alternative,
    *,
    mask_stride: int | None,
    views_per_image: int,
    seed: int,
) -> Start:
    """The network to train, and what to train it on.

    A new network with a frozen encoder gets class filters that are a linear function of it. A black
    box that can only be queried gets a stand-in.

    Args:
        network: The user's. None: a new one.
        encoder: Of a new one, as `chosen_encoder` returns it.
        black_box: The user's.
        data: The images.
        alternative: What replaces pixels.
        mask_stride: See `masking_network`.
        views_per_image: Views by which filters and stand-in are made, 512 at most.
        seed: Random seed.
    """
    new = network is None
    if network is None:
        if isinstance(encoder, BlackBox):
            encoder = PretrainedEncoder(encoder, data.size)
        options: dict[str, Any] = {"encoder": encoder, "mask_stride": mask_stride, "seed": seed}
        network = masking_network(black_box, *data.statistics(black_box.device), **options)
    if not isinstance(network.encoder, PretrainedEncoder):
        return Start(network, black_box, None)
    views = make_views(data.local, views=views_per_image, most=_MOST, seed=seed)
    if new:
        index = torch.split(torch.arange(len(views), device="cpu"), _CHUNK)
        fit_filters(network, black_box, (views.images(i).to(black_box.device) for i in index))
    if black_box.differentiable:
        return Start(network, black_box, None)
    return Start(network, *make_stand_in(black_box, network.encoder, views, alternative))
