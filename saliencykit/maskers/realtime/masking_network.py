"""MaskingNetwork: the network that predicts the mask."""

from typing import Literal, TypeAlias, final

import torch
from torch import nn

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels, Mask, PerImage
from saliencykit.maskers.realtime.decoder import Bottleneck, Decoder, UNet, ratio
from saliencykit.maskers.realtime.encoder import (
    Encoder,
    Features,
    PretrainedEncoder,
    StandaloneEncoder,
    TrunkEncoder,
)
from saliencykit.maskers.realtime.selector import ClassFilters, ClassSelector
from saliencykit.networks.classifier_head import ClassifierHead, find_classifier_head
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.feature_pyramid import choose_pyramid
from saliencykit.networks.module_calls import one_call, record_calls
from saliencykit.networks.token_order import keeps_token_order, noise_like

EncoderName: TypeAlias = Literal["auto", "trunk", "paper", "own"]


@final
class MaskingNetwork(nn.Module):
    """The paper's masking model: encoder, selector (feature filter), decoder and the two-channel
    head.

    Any of the parts may be replaced by another of its kind. The black box is not a part: it is
    given to the encoder, which reads its trunk or ignores it.

    Args:
        encoder: Feature maps at several scales.
        selector: Where the asked class is in the coarsest map.
        decoder: From the gated maps to two maps at the mask's resolution.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> network = masking_network(black_box, images, encoder="own").eval()
        >>> mask, presence = network(network.encoder.encode(black_box, images), labels)
        >>> mask.shape, presence.shape
        (torch.Size([2, 1, 16, 16]), torch.Size([2]))

    References:
        Dabkowski & Gal 2017, section 4.1 and figure 4.
    """

    def __init__(self, encoder: Encoder, selector: ClassSelector, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.selector, self.decoder = encoder, selector, decoder

    def forward(
        self, features: Features, labels: Labels, confidence: float = 0.0
    ) -> tuple[Mask, PerImage]:
        """Masks of one class per picture.

        Args:
            features: Of B pictures, from `encoder.encode`.
            labels: (B,) int64, or (B, n) for n classes of each picture from the same features.
            confidence: The head's knob: > 0 for smaller masks, < 0 for larger ones.

        Returns:
            The masks at the decoder's resolution, (B, 1, h, w) or (B, n, h, w), and the presence:
            the gate's largest logit, (B,) or (B, n); positive where the class is seen.

        Raises:
            InputError: The labels are not one row per picture.
        """
        if labels.ndim not in (1, 2) or len(labels) != len(features.maps[0]):
            raise InputError(
                f"MaskingNetwork takes labels ({len(features.maps[0])},) or (.., n); got "
                f"{tuple(labels.shape)}."
            )
        coarse = features.maps[-1]
        prepared = self.decoder.prepare(features.maps)
        if labels.ndim == 1:
            gate = self.selector(coarse, labels)
            return ratio(self.decoder(prepared, gate.sigmoid()), confidence), gate.amax((1, 2, 3))
        several = labels.shape[1]
        gate = self.selector(coarse.repeat_interleave(several, 0), labels.flatten())
        two = self.decoder(
            tuple(part.repeat_interleave(several, 0) for part in prepared), gate.sigmoid()
        )
        found = ratio(two, confidence)
        masks = found.view(-1, several, *found.shape[2:])
        return masks, gate.amax((1, 2, 3)).view(-1, several)


def masking_network(
    black_box: BlackBox,
    images: Images,
    labels: Labels | None = None,
    *,
    encoder: EncoderName | Encoder = "auto",
    mask_stride: int | None = None,
    seed: int = 0,
) -> MaskingNetwork:
    """A masking network for a black box, useful before its first step where the box's trunk and
    head can be read.

    Args:
        black_box: The classifier.
        images: A few pictures as the box takes them, (B, C, H, W): the selector's statistics come
            from them.
        labels: (B,); None: the box's own top classes.
        encoder: `trunk`: the box's own maps; `paper`: a pretrained ResNet-50; `own`: a small one
            from nothing; `auto`: `trunk` where the box shows a torch module with maps, else `own`;
            or an Encoder.
        mask_stride: Of the mask: pixels of the picture a pixel of the mask. None: 4 (the paper's) from
            128 px on, 2 from 48, else 1.
        seed: Of the initial weights.

    Raises:
        InputError: The box shows no features and the trunk was asked for.
    """
    height, width = images.shape[2:]
    mask_stride = (
        (4 if min(height, width) >= 128 else 2 if min(height, width) >= 48 else 1)
        if mask_stride is None
        else mask_stride
    )
    if mask_stride < 1:
        raise InputError(f"masking_network(stride={mask_stride}): a stride is >= 1.")
    side = (-(-height // mask_stride), -(-width // mask_stride))
    with torch.no_grad():
        logits = black_box(images)
    labels = logits.argmax(1) if labels is None else labels
    with rng.isolated(images.device):
        torch.manual_seed(seed)
        images = images.clone() if images.is_inference() else images
        if encoder == "auto":
            encoder = _trunk_or_own(black_box)
        if encoder == "trunk":
            network = _on_trunk(black_box, images, side)
        else:
            network = _apart(encoder, black_box.num_classes, (height, width), images.shape[1], side)
        network.to(images.device)
        with torch.no_grad():
            network.eval()
            coarse = network.encoder.encode(black_box, images).maps[-1]
            if isinstance(network.selector, ClassFilters):
                network.selector.calibrate(coarse, labels)
    return network


def _trunk_or_own(black_box: BlackBox) -> Literal["trunk", "own"]:
    return "trunk" if black_box.module is not None and black_box.differentiable else "own"


def _on_trunk(black_box: BlackBox, images: Images, side: tuple[int, int]) -> MaskingNetwork:
    head = find_classifier_head(black_box, images)
    trunk = TrunkEncoder(trunk_feature_maps(black_box, one_call(black_box, images, 2), head, side))
    finest = max(side, trunk.sides[-1])
    return MaskingNetwork(
        trunk,
        ClassFilters(head.weight, head.bias, own=not head.exact, layer=head.layer),
        UNet(trunk.channels, trunk.sides, finest),
    )


def trunk_feature_maps(
    black_box: BlackBox, images: Images, head: ClassifierHead, side: tuple[int, int]
) -> tuple[FeatureMap, ...]:
    """The layers for a trunk, fine to coarse, without those whose tokens do not stand in the order
    of the picture.

    Raises:
        InputError: The tokens that the head reads are out of order.
    """
    with torch.no_grad():
        _, calls = record_calls(black_box, images)
    feature_maps = choose_pyramid(calls, images, head.feature_map, side)
    ordered = tuple(
        feature_map
        for feature_map in feature_maps
        if feature_map.layout != "tokens"
        or keeps_token_order(black_box, feature_map, noise_like(images))
    )
    if head.feature_map not in ordered:
        raise InputError(
            f"the tokens of {head.feature_map.name!r} of {name_of(black_box.module)} do not stand in the "
            "order of the picture, so no mask can be read off them. Write encoder='own' or "
            "'paper', which look at the picture themselves."
        )
    return ordered


def _apart(
    encoder: EncoderName | Encoder,
    num_classes: int,
    size: tuple[int, int],
    channels_in: int,
    side: tuple[int, int],
) -> MaskingNetwork:
    made: Encoder
    if encoder == "paper":
        made = PretrainedEncoder(size=size)
    elif encoder == "own":
        made = StandaloneEncoder(
            stem=max(1, round(size[0] / side[0])), size=size, channels_in=channels_in
        )
    elif isinstance(encoder, Encoder):
        made = encoder
    else:
        raise InputError(
            f"an encoder is 'auto', 'trunk', 'paper', 'own' or an Encoder; got {encoder!r}."
        )
    width = made.channels[-1]
    rows = ClassFilters(
        torch.randn(num_classes, width) / width**0.5, torch.zeros(num_classes), own=True
    )
    decoder: Decoder = (
        Bottleneck(made.channels, made.sides, side)
        if made.kind == "paper"
        else UNet(made.channels, made.sides, side)
    )
    return MaskingNetwork(made, rows, decoder)
