"""MaskingNetwork: the network that predicts masks."""

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from saliencykit.core import checks, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels, Mask, PerImage
from saliencykit.maskers.realtime.bottleneck_decoder import Bottleneck
from saliencykit.maskers.realtime.box_threshold import BoxThreshold
from saliencykit.maskers.realtime.decoder import Decoder, mask_ratio
from saliencykit.maskers.realtime.encoder import (
    Encoder,
    Features,
    StandaloneEncoder,
    TrunkEncoder,
    default_stride,
)
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder, is_text
from saliencykit.maskers.realtime.selector import ClassFilters, ClassSelector
from saliencykit.maskers.realtime.unet_decoder import UNet
from saliencykit.networks.classifier_head import find_classifier_head
from saliencykit.networks.feature_pyramid import feature_pyramid
from saliencykit.networks.image_response import grid_offset, noise_like
from saliencykit.networks.ridge_probe import ridge_probe

_PAPER = ("paper", "paper,pretrained=false")  # the second one for timings


@final
class MaskingNetwork(nn.Module):
    """The paper's masking model: encoder, class selector (feature filter), decoder, and the ratio
    of its two maps.

    Each part can be replaced by another of its kind. The black box is not a part of it: the encoder
    gets it with each call, and reads its feature maps or ignores it.

    Attributes:
        box_threshold: Chooses the threshold of each mask's bounding box; None: 0.5.

    Args:
        encoder: Feature maps at several scales.
        selector: Where the class is in the coarsest map.
        decoder: From the gated maps to two maps at the mask's resolution.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
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
        self.box_threshold: BoxThreshold | None = None

    def forward(
        self, features: Features, labels: Labels, confidence: float = 0.0
    ) -> tuple[Mask, PerImage]:
        """Masks of one or several classes per image.

        Args:
            features: Of B images, from `encoder.encode`.
            labels: (B,) int64, or (B, n) for n classes of each image from the same features.
            confidence: Positive for smaller masks, negative for larger ones.

        Returns:
            The masks at the decoder's resolution, (B, 1, h, w) or (B, n, h, w), and the presence:
            the gate's largest logit, (B,) or (B, n); positive where the class is in the image.

        Raises:
            InputError: There is not one row of labels per image.
        """
        coarse, count = features.maps[-1], len(features.maps[-1])
        if labels.ndim not in (1, 2) or len(labels) != count:
            raise InputError(
                f"MaskingNetwork takes labels ({count},) or ({count}, n); got "
                f"{tuple(labels.shape)}."
            )
        prepared = self.decoder.prepare(features.maps)
        if labels.ndim == 2:
            coarse = coarse.repeat_interleave(labels.shape[1], 0)
            prepared = tuple(part.repeat_interleave(labels.shape[1], 0) for part in prepared)
        gate = self.selector(coarse, labels.flatten())
        masks = mask_ratio(self.decoder(prepared, gate.sigmoid()), confidence)
        presence = gate.amax((1, 2, 3)).view(labels.shape)
        return masks.view(count, -1, *masks.shape[2:]), presence


def masking_network(
    black_box: BlackBox,
    images: Images,
    labels: Labels | None = None,
    *,
    encoder: str | Encoder = "auto",
    mask_stride: int | None = None,
    seed: int = 0,
) -> MaskingNetwork:
    """An untrained masking network for a black box. With a `TrunkEncoder` and the filters of the
    classifier's head its masks are useful before training.

    Args:
        black_box: The classifier.
        images: A few images as the black box takes them, (B, C, H, W), for the statistics of the
            class selector.
        labels: (B,); None: the black box's top classes.
        encoder: `trunk`: the black box's own feature maps; `own`: a small one, trained from
            scratch; `auto`: `trunk` where the black box exposes a torch module, else `own`;
            `timm:NAME`: a network of timm, frozen; `paper`: a ResNet-50 with the paper's decoder;
            or an Encoder.
        mask_stride: Pixels of the image per pixel of the mask, >= 1. None: 4 (the paper's) from
            128 px on, 2 from 48, else 1.
        seed: Random seed of the initial weights.

    Raises:
        InputError: The encoder is unknown, or `trunk` for a black box that exposes no feature maps.
    """
    height, width = images.shape[2:]
    if mask_stride is None:
        mask_stride = default_stride((height, width))
    checks.counts("masking_network", mask_stride=mask_stride)
    side = (-(-height // mask_stride), -(-width // mask_stride))
    if labels is None:
        with torch.no_grad():
            labels = black_box(images).argmax(1)
    if encoder == "auto":
        readable = black_box.module is not None and black_box.differentiable
        encoder = "trunk" if readable else "own"
    with rng.isolated(images.device, seeded=True):
        torch.manual_seed(seed)
        images = images.clone() if images.is_inference() else images
        if encoder == "trunk":
            network = _with_trunk(black_box, images, side)
        else:
            made, decoder = _encoder(encoder, images, side)
            network = _without_trunk(made, black_box, side, decoder)
        network.to(images.device).eval()
        if isinstance(network.encoder, PretrainedEncoder) and len(images) > 1:
            fit_filters(network, black_box, [images])
        with torch.no_grad():
            coarse = network.encoder.encode(black_box, images).maps[-1]
            if isinstance(network.selector, ClassFilters):
                network.selector.calibrate(coarse, labels)
    return network


def _with_trunk(black_box: BlackBox, images: Images, side: tuple[int, int]) -> MaskingNetwork:
    head = find_classifier_head(black_box, images)
    trunk = TrunkEncoder(feature_pyramid(black_box, images, side, head.feature_map))
    filters = ClassFilters(
        head.weight,
        head.bias,
        trained=not head.exact,
        layer=head.layer,
        exclusive=black_box.output == "softmax",
    )
    coarsest = trunk.feature_maps[-1]
    pixels = grid_offset(black_box, coarsest, noise_like(images))
    (down, right), (rows, columns) = pixels, coarsest.side
    offset = (down * rows / images.shape[2], right * columns / images.shape[3])
    decoder = UNet(trunk.channels, trunk.sides, max(side, trunk.sides[-1]), offset=offset)
    return MaskingNetwork(trunk, filters, decoder)


def _without_trunk(
    encoder: Encoder, black_box: BlackBox, side: tuple[int, int], decoder: type[UNet | Bottleneck]
) -> MaskingNetwork:
    width, num_classes = encoder.channels[-1], black_box.num_classes
    filters = ClassFilters(
        torch.randn(num_classes, width, dtype=torch.float32, device="cpu") / width**0.5,
        torch.zeros(num_classes, dtype=torch.float32, device="cpu"),
        trained=True,
        exclusive=black_box.output == "softmax",
    )
    side = max(side, encoder.sides[0])
    return MaskingNetwork(encoder, filters, decoder(encoder.channels, encoder.sides, side))


@torch.no_grad()
def fit_filters(network: MaskingNetwork, black_box: BlackBox, batches: Iterable[Images]) -> None:
    """Set the class filters of a network with a frozen encoder of its own: the linear function of
    the mean of its coarsest map that is closest to the black box's logits, for all classes.

    Args:
        network: With trained `ClassFilters`; changed in place.
        black_box: Is queried with the images.
        batches: Images (B, C, H, W), several in all.
    """
    pooled, logits = list[Tensor](), list[Tensor]()
    for images in batches:
        features = network.encoder.encode(black_box, images)
        pooled.append(features.maps[-1].mean((2, 3)).cpu())
        logits.append(black_box(images))
        if len(pooled) == 1:
            coarse = features.maps[-1]
    probe = ridge_probe(torch.cat(pooled), torch.cat(logits), black_box.output)
    assert isinstance(network.selector, ClassFilters)
    network.selector.read_from(*probe)
    network.selector.calibrate(coarse, logits[0].argmax(1))


def _encoder(
    encoder: str | Encoder, images: Images, side: tuple[int, int]
) -> tuple[Encoder, type[UNet | Bottleneck]]:
    """The encoder, and its decoder: the paper's comes with the paper's."""
    size = (images.shape[2], images.shape[3])
    if isinstance(encoder, Encoder):
        return encoder, UNet
    if encoder in _PAPER:
        return PretrainedEncoder(encoder.replace("paper", "timm:resnet50"), size), Bottleneck
    if encoder == "own":
        stem = max(1, round(size[0] / side[0]))
        return StandaloneEncoder(stem=stem, size=size, channels_in=images.shape[1]), UNet
    if is_text(encoder):
        return PretrainedEncoder(encoder, size), UNet
    raise InputError(
        f"encoder={encoder!r}: expected 'auto', 'trunk', 'paper', 'own', 'timm:NAME' or an Encoder."
    )
