"""Which feature maps of a classifier a decoder reads: one per scale, fine to coarse."""

from collections.abc import Sequence

from saliencykit.networks.feature_map import FeatureMap

_SAME_SCALE = 1.4  # sides whose ratio is smaller are one scale
_MAX_LEVELS = 4  # besides the coarsest


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
        best = _last_outermost(by_side[side])
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


def _last_outermost(feature_maps: Sequence[FeatureMap]) -> FeatureMap:
    outermost = min(map(_depth, feature_maps))
    return [each for each in feature_maps if _depth(each) == outermost][-1]


def _depth(feature_map: FeatureMap) -> int:
    return feature_map.name.count(".")
