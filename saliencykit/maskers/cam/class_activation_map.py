"""ClassActivationMap: maskers that read one or several layers, at one or several input sizes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.private_copy import in_float32
from saliencykit.networks.target_layer import find_target_layer

ROUNDING = 1e-6
"""Of the largest value that a map could have: smaller maps are rounding noise."""


@final
@dataclass(frozen=True, eq=False)
class LayerInput:
    """What a layer's map is computed from.

    Attributes:
        black_box: The classifier.
        images: (B, C, H, W).
        labels: (B,).
        feature_map: The layer, for images of this size.
        generator: The source of randomness.
    """

    black_box: BlackBox
    images: Images
    labels: Labels
    feature_map: FeatureMap
    generator: Generator

    def read(self) -> tuple[Logits, Tensor]:
        """The logits (B, K) and the layer's output (B, C, h, w), without gradients."""
        with torch.no_grad():
            logits, (maps,) = read_feature_maps(self.black_box, self.images, [self.feature_map])
        return logits, maps


@dataclass(frozen=True, kw_only=True)
class ClassActivationMap(Masker):
    """A masker whose attributions are a map at the resolution of a layer.

    The mask is the positive part of the map divided by its maximum. Several layers or input sizes
    give one map each: every one is divided by its maximum and enlarged to the image. The
    attributions are then their mean, and the mask is the mean of their positive parts divided by
    its maximum.

    Args:
        layer: Dotted name of a layer with spatial feature maps, such as `layer3`, as in
            `model.named_modules()`; or several names. None: the layer that `find_target_layer`
            chooses.
        scales: Input sizes to average over, as factors of the image's sides: each > 0. `(1, 1.4,
            2)` gives finer maps and costs seven times as much. Only for models that take images of
            several sizes.

    Raises:
        InputError: A name or a scale is not one; the black box does not expose submodules, no layer
            qualifies, or a given one does not; or the model does not take images of a scaled size.
    """

    layer: str | Sequence[str] | None = None
    scales: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        """Check the names and the scales."""
        super().__post_init__()
        if not _all_are(
            self.layer_names, lambda name: name is None or (isinstance(name, str) and name)
        ):
            raise InputError(
                f"{name_of(self)}(layer={self.layer!r}): expected the dotted name of a layer, such "
                "as 'layer4', several of them, or None."
            )
        if not _all_are(self.scales, lambda s: isinstance(s, int | float) and 0 < s < inf):
            raise InputError(
                f"{name_of(self)}(scales={self.scales!r}): expected factors of the image's sides "
                "> 0, such as (1, 1.4, 2)."
            )

    @property
    def layer_names(self) -> Sequence[str | None]:
        """The names that were given, or one None."""
        one = isinstance(self.layer, str) or self.layer is None
        return [self.layer] if one else self.layer  # type: ignore[list-item, return-value]

    def feature_maps(self, black_box: BlackBox, images: Images) -> Sequence[FeatureMap]:
        """The layers to read: those that were named, or the one that `find_target_layer` chooses.

        Args:
            black_box: The classifier.
            images: (B, C, H, W); their size counts.
        """
        return [find_target_layer(black_box, images, name) for name in self.layer_names]

    @abstractmethod
    def layer_map(self, layer: LayerInput) -> tuple[Tensor, Tensor | None]:
        """The attributions of one layer.

        Args:
            layer: The layer and the images, of one size.

        Returns:
            Signed attributions (B, 1, h, w), and the size of rounding noise in each map (B,), or
            None.
        """

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The map at the resolution of the layer; the mean of several at the image's."""
        black_box = in_float32(black_box, images)
        layers = self.feature_maps(black_box, images)
        maps, offsets = [], []
        for scale in self.scales:
            scaled, read = images, layers
            if scale != 1:
                size = [max(1, round(side * scale)) for side in images.shape[2:]]
                scaled = F.interpolate(images, size, mode="bilinear", antialias=True)
                read = self._at_size(black_box, scaled, layers)
            for layer in read:
                given = LayerInput(black_box, scaled, labels, layer, generator)
                attributions, floor = self.layer_map(given)
                floor = None if floor is None else floor.to(images.dtype)
                maps.append((attributions.to(images.dtype), floor))
                offsets.append((layer.offset[0] / scale, layer.offset[1] / scale))
        if len(maps) == 1:
            mask = mask_from_attributions(*maps[0])
            return MaskerOutput(mask, maps[0][0], offset=offsets[0])
        return _fused(maps, offsets, images.shape[2:])

    def _at_size(
        self, black_box: BlackBox, images: Images, layers: Sequence[FeatureMap]
    ) -> list[FeatureMap]:
        """The same layers for images of another size."""
        if any(layer.calls > 1 for layer in layers):  # of a layer that is called several times
            return list(self.feature_maps(black_box, images))
        try:
            return [find_target_layer(black_box, images, layer.name) for layer in layers]
        except InputError as error:
            raise InputError(
                f"{name_of(self)}(scales={self.scales!r}): {name_of(black_box.module)} does not "
                f"take images of {images.shape[2]} x {images.shape[3]} pixels; leave out scales. "
                f"({error})"
            ) from error


def _fused(
    maps: Sequence[tuple[Tensor, Tensor | None]],
    offsets: Sequence[tuple[float, float]],
    size: Sequence[int],
) -> MaskerOutput:
    """The mean of maps that are divided by their maxima, at the size of the images."""
    signed, masks = [], []
    for (attributions, floor), offset in zip(maps, offsets, strict=True):
        largest = attributions.amax((1, 2, 3))
        largest = largest if floor is None else torch.maximum(largest, floor)
        # a map without a positive value keeps its sign, and adds nothing to the mask
        scale = largest.where(largest > 0, attributions.abs().amax((1, 2, 3)))
        scale = scale.clamp_min(torch.finfo(attributions.dtype).tiny).view(-1, 1, 1, 1)
        signed.append(place_maps(attributions / scale, size, offset))
        masks.append(place_maps(mask_from_attributions(attributions, floor), size, offset))
    mean = torch.stack(masks).mean(0)
    return MaskerOutput(mask_from_attributions(mean), torch.stack(signed).mean(0))


def _all_are(values: object, right: Callable[[Any], Any]) -> bool:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and len(values) > 0
        and all(right(value) for value in values)
    )
