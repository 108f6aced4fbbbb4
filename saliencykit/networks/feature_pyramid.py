"""Which feature maps of a classifier a decoder reads: one per scale, fine to coarse."""

from collections.abc import Sequence
from math import prod

import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.image_response import keeps_token_order, noise_like
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import one_call, record_calls

_SAME_SCALE = 1.4  # sides whose ratio is smaller are one scale
_MAX_LEVELS = 4  # besides the coarsest


def feature_pyramid(
    black_box: BlackBox,
    images: Images,
    finest: tuple[int, int],
    coarsest: FeatureMap | None = None,
) -> tuple[FeatureMap, ...]:
    """The layers that a decoder reads, fine to coarse, without those whose tokens are not in the
    spatial order of the image.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W); two of them are used.
        finest: Height and width of the finest map that is of use.
        coarsest: The last one. None: the outermost layer of the smallest maps that is called last.

    Raises:
        InputError: There is no feature map, or the coarsest one's tokens are not in that order.
    """
    images = one_call(black_box, images, 2)
    with torch.no_grad():
        _, calls = record_calls(black_box, images)
    feature_maps = [feature_map for feature_map, _ in feature_maps_in(black_box, calls, images)]
    if coarsest is None:
        if not feature_maps:
            raise InputError(
                f"none of the {len(calls)} layers of {name_of(black_box.module)} has a spatial "
                "feature map, so it cannot be an encoder."
            )
        least = min(prod(each.side) for each in feature_maps)
        coarsest = last_outermost([each for each in feature_maps if prod(each.side) == least])
    ordered = tuple(
        each
        for each in choose_pyramid(feature_maps, coarsest, finest)
        if each.layout != "tokens" or keeps_token_order(black_box, each, noise_like(images))
    )
    if coarsest not in ordered:
        raise InputError(
            f"the tokens of {coarsest.name!r} of {name_of(black_box.module)} are not in the "
            "spatial order of the image, so they give no mask. Use encoder='own' or another "
            "network, such as encoder='timm:resnet50', which read the image themselves."
        )
    return ordered


def choose_pyramid(
    feature_maps: Sequence[FeatureMap], coarsest: FeatureMap, finest: tuple[int, int]
) -> tuple[FeatureMap, ...]:
    """The feature maps of a decoder, fine to coarse: one per side, from `finest` to `coarsest`.

    Among layers of the same side the outermost is taken, and of those the last: a block rather than
    a convolution inside the next one. Where the network keeps one side throughout (a plain
    transformer), two earlier blocks are taken.
    """
    by_side: dict[tuple[int, int], list[FeatureMap]] = {}
    for feature_map in feature_maps:
        by_side.setdefault(feature_map.side, []).append(feature_map)
    chosen: list[FeatureMap] = []
    for side in sorted(by_side):
        if not coarsest.side[0] * _SAME_SCALE < side[0] <= finest[0] + 1:
            continue
        best = last_outermost(by_side[side])
        if chosen and side[0] < chosen[-1].side[0] * _SAME_SCALE:  # 28 and, with padding, 29
            chosen[-1] = min(chosen[-1], best, key=_depth)
        else:
            chosen.append(best)
    if chosen:
        return (*reversed(chosen[:_MAX_LEVELS]), coarsest)
    same = [each for each in by_side.get(coarsest.side, []) if each.name != coarsest.name]
    parents = [each.name.rpartition(".")[0] for each in same]
    most = max(map(parents.count, parents), default=0)
    blocks = [each for each, p in zip(same, parents, strict=True) if parents.count(p) == most]
    if len(blocks) > 2:
        return (blocks[len(blocks) // 6], blocks[len(blocks) // 2], coarsest)
    return (*blocks[:1], coarsest)


def last_outermost(feature_maps: Sequence[FeatureMap]) -> FeatureMap:
    """The last one of a module that is inside the fewest others."""
    outermost = min(map(_depth, feature_maps))
    return [each for each in feature_maps if _depth(each) == outermost][-1]


def _depth(feature_map: FeatureMap) -> int:
    return feature_map.name.count(".")
