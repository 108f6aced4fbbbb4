"""ClassEvidence: what one pass of a classifier says about where its classes are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Labels, Logits, PerImage
from saliencykit.maskers.universal.sharpening_network import cell_similarity
from saliencykit.networks.classifier_head import ClassifierHead, pooled_classifier_head
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.feature_pyramid import last_outermost
from saliencykit.networks.image_response import noise_like
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import one_call, record_calls
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.structure_cache import StructureCache

_STRIDES = (8, 16)  # pixels of the image per position of the feature maps that are compared
_SAME = 1.5  # maps whose stride differs by a larger factor are not taken
_MOST_CELLS = 14  # per side; finer maps of evidence are averaged
_ROUNDING = 1e-6  # of the largest term: an evidence map below it is noise
_MEAN = 0.35  # of the positive part of a map of usual contrast
_POWERS, _HALVINGS = (0.4, 2.5), 12  # that change the contrast; steps to find one

_layers: StructureCache[tuple[FeatureMap | None, ...]] = StructureCache()
"""The feature maps to compare, by image size."""


@final
@dataclass(frozen=True)
class ClassEvidence:
    """What one pass of a classifier gives for B images.

    Attributes:
        logits: (B, K).
        head: Its vector of each class.
        coarse: The feature map that the head pools, (B, C, h, w).
        similarities: Of positions and cells, see `SharpeningNetwork`; for cells of `grid`.
        grid: Height and width of the evidence in cells.
        output: What a column of the logits means.
        centered: Are classes compared with the mean of all, and not with a given one?
    """

    logits: Logits
    head: ClassifierHead
    coarse: Tensor
    similarities: tuple[Tensor | None, ...]
    grid: tuple[int, int]
    output: Output
    centered: bool

    def of(self, labels: Labels) -> Tensor:
        """Class activation maps of n classes of each image, divided by their maxima, (B, n, h, w).

        Args:
            labels: (B, n).
        """
        weight = self.head.weight.to(self.coarse)
        chosen = weight[labels]  # (B, n, C)
        if self.centered:
            chosen = chosen - weight.mean(0)
        maps = torch.matmul(chosen, self.coarse.flatten(2)).view(
            *labels.shape, *self.coarse.shape[2:]
        )
        floor = torch.matmul(chosen.abs(), self.coarse.abs().flatten(2)).amax(2) * _ROUNDING
        return on_grid(maps, self.grid, floor)

    def strength(self, labels: Labels) -> PerImage:
        """The logits of classes relative to the top one, (B, n); see `relative_strength`."""
        return relative_strength(self.logits, labels, self.output)


def read_evidence(black_box: BlackBox, images: Images) -> ClassEvidence | None:
    """Query a classifier once; None if its head is not pooling and a linear layer.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W).
    """
    if black_box.module is None or (head := pooled_classifier_head(black_box, images)) is None:
        return None
    layers = compared_layers(black_box, images)
    read = [layer for layer in (*layers, head.feature_map) if layer is not None]
    with torch.no_grad():
        logits, maps = read_feature_maps(black_box, images, read)
    coarse = maps[-1]
    grid = cells_of(coarse.shape[2:])
    # the softmax does not depend on what all classes have in common
    exclusive = black_box.output == "softmax" and black_box.against is None
    return ClassEvidence(
        logits,
        head,
        coarse,
        similarities_of(layers, maps, grid),
        grid,
        black_box.output,
        exclusive and len(head.weight) > 1,
    )


def similarities_of(
    layers: Sequence[FeatureMap | None], maps: Sequence[Tensor], grid: Sequence[int]
) -> tuple[Tensor | None, ...]:
    """The similarities of positions and cells, None where there is no layer.

    Args:
        layers: As of `compared_layers`.
        maps: (B, C, h, w) of those that are there, in their order.
        grid: Height and width of the evidence in cells.
    """
    left = iter(maps)
    return tuple(
        None if layer is None else cell_similarity(next(left).float(), grid) for layer in layers
    )


def compared_layers(black_box: BlackBox, images: Images) -> tuple[FeatureMap | None, ...]:
    """The layers with about 1/8 and 1/16 of the image's side whose features are compared.

    They are found once for an image size, on noise.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W); only shape, dtype and device count.
    """
    known = _layers.of(black_box.source_module or module_of(black_box))
    size = tuple(images.shape[1:])
    if size not in known:
        probe = one_call(black_box, noise_like(images), 2)
        with torch.no_grad():
            _, calls = record_calls(black_box, probe)
        maps = [found for found, _ in feature_maps_in(black_box, calls, probe)]
        known[size] = tuple(_nearest(maps, size[1], stride) for stride in _STRIDES)
    return known[size]


def _nearest(maps: Sequence[FeatureMap], side: int, stride: int) -> FeatureMap | None:
    """The outermost layer, of these the last, among those with about this stride."""
    near = [each for each in maps if 1 / _SAME < side / each.side[0] / stride < _SAME]
    if not near:
        return None
    best = min(near, key=lambda each: abs(side / each.side[0] - stride)).side
    return last_outermost([each for each in near if each.side == best])


def cells_of(side: Sequence[int]) -> tuple[int, int]:
    """The grid that a map of this height and width is averaged to: at most 14 cells per side."""
    return min(side[0], _MOST_CELLS), min(side[1], _MOST_CELLS)


def on_grid(maps: Tensor, grid: tuple[int, int], floor: Tensor | None = None) -> Tensor:
    """Signed maps, averaged to a grid and divided by their maxima.

    Their contrast is evened, see `evened`.

    Args:
        maps: (B, n, h, w).
        grid: Height and width of the result.
        floor: (B, n): a map whose maximum is below it is divided by it. None: 0.
    """
    pooled = F.adaptive_avg_pool2d(maps, grid)
    tiny = torch.finfo(pooled.dtype).tiny
    largest = pooled.amax((2, 3), keepdim=True).clamp_min(tiny)
    shown = evened((pooled / largest).clamp(-1, 1))
    if floor is None:
        return shown
    return shown * (largest / floor.to(pooled)[:, :, None, None].clamp_min(tiny)).clamp_max(1)


def evened(maps: Tensor) -> Tensor:
    """Maps in [-1, 1] with a contrast nearer to the usual one: each raised to a power.

    Some classifiers have peaked maps and others flat ones, and a network that has not seen a
    classifier would take its contrast for the size of the object. The power moves the mean of the
    positive part halfway, geometrically, to 0.35. It keeps the order of the cells, and 0 and 1.

    Args:
        maps: (B, n, h, w), with the maximum 1.
    """
    positive = maps.clamp_min(0)
    wanted = (positive.mean((2, 3), keepdim=True) * _MEAN).sqrt()
    low = torch.full_like(wanted, _POWERS[0])
    high = torch.full_like(wanted, _POWERS[1])
    for _ in range(_HALVINGS):  # the mean falls as the power rises
        middle = (low + high) / 2
        more = positive.pow(middle).mean((2, 3), keepdim=True) > wanted
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return maps.sign() * maps.abs().pow((low + high) / 2)


def relative_strength(logits: Logits, labels: Labels, output: Output) -> PerImage:
    """How strong classes are beside the top one: 1 for the top class, 0 for a class like any other.

    Exclusive classes are compared by their logits, relative to the mean of all; independent labels
    by their probability; scores count fully.

    Args:
        logits: (B, K).
        labels: (B, n).
        output: What a column means.
    """
    own = logits.gather(1, labels)
    if output == "score" or logits.shape[1] < 2:
        return torch.ones_like(own)
    if output == "sigmoid":
        return (2 * torch.sigmoid(own)).clamp_max(1)
    mean = logits.mean(1, keepdim=True)
    most = (logits.amax(1, keepdim=True) - mean).clamp_min(torch.finfo(logits.dtype).tiny)
    return ((own - mean) / most).clamp(-1, 1)
