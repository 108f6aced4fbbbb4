"""Which layers of a classifier have spatial feature maps, and how these are laid out."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TypeAlias

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.feature_map import FeatureMap, Side, is_even_grid, token_grid
from saliencykit.networks.image_response import (
    is_in_order,
    noise_like,
    quarter_responses,
    sees_single_cells,
    shares,
)
from saliencykit.networks.module_calls import ModuleCall
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.structure_cache import StructureCache

_PREFIXES = (0, 1, 2, 3, 4, 5, 8)  # of grids that are known by the number of tokens only
_MAX_EXTRA = 64  # tokens before and after the grid
_EQUAL = 1e-3  # of the score: grids that explain the changes equally well
_REACHED = 0.05  # of the change of most tokens
# they return another layer's output, or attention weights
_SKIPPED = ("Dropout", "DropPath", "Softmax", "Identity")

_Shape: TypeAlias = tuple[int, ...]

_cache: StructureCache[FeatureMap | None] = StructureCache()
"""The layout of outputs of one shape, by image size and shape: found by a query on noise."""


def feature_maps_in(
    black_box: BlackBox, calls: Sequence[ModuleCall], images: Images
) -> list[tuple[FeatureMap, ModuleCall]]:
    """The calls whose output is a map of the image, in order, with their FeatureMap.

    A map of the image's aspect ratio is known by its shape. Tokens, and maps whose strides differ
    down and across, are known by what they do: one more query shows which positions change where a
    quarter of the image changes. The grid is the one that explains it best, whatever stands before
    or after it: class, distillation and register tokens. Where a change anywhere changes all tokens
    equally nothing can be said, and the number of tokens decides.

    Args:
        black_box: With a torch module inside.
        calls: Recorded for `images`.
        images: (B, C, H, W).
    """
    layouts = _layouts(black_box, calls, images)
    found = ((_as_feature_map(call, images, layouts), call) for call in calls)
    return [(feature_map, call) for feature_map, call in found if feature_map is not None]


def _as_feature_map(
    call: ModuleCall, images: Images, layouts: dict[_Shape, FeatureMap | None]
) -> FeatureMap | None:
    shape, size = tuple(call.output.shape), (images.shape[2], images.shape[3])
    if not _may_be_map(call, images):
        return None
    if len(shape) == 4:
        if is_even_grid(shape[2:], size):
            return _of_call(call, FeatureMap("", "maps", shape[1], (shape[2], shape[3])), size)
        if is_even_grid(shape[1:3], size):
            return _of_call(call, FeatureMap("", "last", shape[3], (shape[1], shape[2])), size)
    layout = layouts.get(_key(call))
    if layout is None:
        return None
    channels = shape[1] if layout.layout == "maps" else shape[-1]
    return _of_call(call, replace(layout, channels=channels), size)


def _of_call(call: ModuleCall, layout: FeatureMap, size: Side) -> FeatureMap:
    return replace(layout, name=call.name, call=call.index, calls=call.times, image_size=size)


def _may_be_map(call: ModuleCall, images: Images) -> bool:
    return (
        call.output.ndim in (3, 4)
        and len(call.output) == len(images)
        and call.output.is_floating_point()
        and not type(call.module).__name__.startswith(_SKIPPED)
    )


def _key(call: ModuleCall) -> _Shape:
    """Outputs of one key have one layout: of one number of tokens, or one shape."""
    shape = tuple(call.output.shape[1:])
    return shape[:1] if len(shape) == 2 else shape


def _layouts(
    black_box: BlackBox, calls: Sequence[ModuleCall], images: Images
) -> dict[_Shape, FeatureMap | None]:
    """The layout of outputs whose shape does not tell it, by `_key`; from the first such layer,
    which attention has mixed least.
    """
    module, size = module_of(black_box), tuple(images.shape[1:])
    known = _cache.of(black_box.source_module or module)
    first: dict[_Shape, ModuleCall] = {}
    for call in filter(lambda call: _may_be_map(call, images), calls):
        shape = tuple(call.output.shape[1:])
        sides = [] if len(shape) == 2 else [shape[1:], shape[:2]]
        told = any(is_even_grid(side, size[1:]) for side in sides)
        coarse = len(shape) == 2 or any(_is_coarse(side, size[1:]) for side in sides)
        if coarse and not told:
            first.setdefault(_key(call), call)
    unknown = [call for key, call in first.items() if (size, key) not in known]
    if unknown:
        names = list(dict.fromkeys(call.name for call in unknown))
        probe = noise_like(images)
        responses = quarter_responses(black_box, probe, names)
        for call in unknown:
            changes = responses.get(call.name, [])
            change = changes[call.index].mean(0) if call.index < len(changes) else None
            layout = _layout_of(call, change, size[1:])
            if layout is not None and layout.layout == "tokens":
                own = _of_call(call, layout, (size[1], size[2]))
                if not (
                    is_even_grid(layout.side, size[1:]) or sees_single_cells(black_box, own, probe)
                ):
                    layout = _layout_of(call, None, size[1:])  # whose order is then found wrong
            known[(size, _key(call))] = layout
    return {key: known[(size, key)] for key in first}


def _is_coarse(side: _Shape, size: _Shape) -> bool:
    """Has it at most half as many positions as the image has pixels, or is the image small?"""
    fits = all(s <= pixels for s, pixels in zip(side, size, strict=True))
    return fits and prod(side) >= 2 and (2 * prod(side) <= prod(size) or max(size) <= 64)


def _layout_of(call: ModuleCall, change: Tensor | None, size: _Shape) -> FeatureMap | None:
    """The layout of an output, from its changes by quarter (4, *shape)."""
    shape = tuple(call.output.shape[1:])
    if change is not None:
        change = change.float().cpu()
    if len(shape) == 2:
        found = None if change is None else _token_layout(change.sum(2), size)
        prefix, grid = found or _by_count(shape[0], size)
        if grid is None:
            return None
        suffix = shape[0] - prefix - grid[0] * grid[1]
        return FeatureMap(call.name, "tokens", shape[1], grid, prefix, suffix)
    if change is None:
        return None
    for layout, axis in (("maps", 1), ("last", 3)):
        maps = change.sum(axis)
        side: Side = (maps.shape[1], maps.shape[2])
        one_row = any(s == 1 < pixels for s, pixels in zip(side, size, strict=True))
        if _is_coarse(side, size) and not one_row and is_in_order(maps, size, surely=True):
            return FeatureMap(call.name, layout, 1, side)  # type: ignore[arg-type]
    return None


def _token_layout(change: Tensor, size: _Shape) -> tuple[int, Side] | None:
    """The prefix and the grid that explain the changes of tokens by quarter, (4, N), best; None
    where the changes are not those of a grid.
    """
    count = change.shape[1]
    total = change.sum(1, keepdim=True)
    if count < 2 or not bool((total > 0).all()):
        return None
    change = change / total
    # tokens at the ends that no change of the image reaches are none of the grid
    moved = change.sum(0)
    reached = (moved > _REACHED * moved.quantile(0.9)).nonzero().flatten()
    first, last = int(reached[0]), int(reached[-1]) + 1
    change, count = change[:, first:last], last - first
    candidates: list[tuple[float, int, float, int, Side]] = []
    for height in range(1, count + 1):
        for width in range(max(1, -(-(count - _MAX_EXTRA) // height)), count // height + 1):
            grid = (height, width)
            if any(s > p or s == 1 < p for s, p in zip(grid, size, strict=True)):
                continue
            if height * width < count / 2:
                continue
            share = shares(grid, size).flatten(1)
            scores = (change.unfold(1, height * width, 1) * share[:, None]).sum((0, 2))
            prefix = int(scores.argmax())
            odd = abs(height * size[1] / size[0] / width - 1)
            candidates.append((float(scores[prefix]), height * width, odd, prefix, grid))
    if not candidates:
        return None
    best = max(candidate[0] for candidate in candidates)
    good = [each for each in candidates if each[0] > best * (1 - _EQUAL)]
    _, positions, _, prefix, grid = min(good, key=lambda each: each[1:3])
    maps = change[:, prefix : prefix + positions].reshape(4, *grid)
    return (first + prefix, grid) if is_in_order(maps, size, surely=True) else None


def _by_count(count: int, size: _Shape) -> tuple[int, Side | None]:
    for prefix in _PREFIXES:
        if grid := token_grid(count - prefix, size):
            return prefix, grid
    return 0, None
