"""Taps: the modules of a classifier whose outputs are maps over the picture."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits

Layout: TypeAlias = Literal["maps", "last", "tokens"]
# class, distillation and register tokens that stand before the grid
_PREFIXES = (
    0,
    1,
    2,
    3,
    4,
    5,
    8,
)
# their outputs are other modules' outputs, or attention weights
_SKIPPED = (
    "Dropout",
    "DropPath",
    "Softmax",
    "Identity",
)
_APART = 1.4  # sides that differ by less are one scale
_LEVELS = 4  # finer maps than the coarsest that a decoder is given


@final
@dataclass(frozen=True)
class FeatureMap:
    """One module of a classifier whose output is a map over the picture.

    Attributes:
        name: Dotted, as in `named_modules()`.
        layout: `maps`: (B, C, h, w); `last`: (B, h, w, C); `tokens`: (B, N, C).
        channels: C.
        side: h and w for the picture it was found with.
        prefix: With `tokens`: how many stand before those of the grid.
    """

    name: str
    layout: Layout
    channels: int
    side: tuple[int, int]
    prefix: int = 0

    def read(self, output: Tensor, picture: Sequence[int]) -> Tensor:
        """The module's output as (B, C, h, w), float32 unless it is float64.

        Args:
            output: What the module returned.
            picture: Height and width of the picture it saw, in pixels.

        Raises:
            InputError: The output is not a map over such a picture.
        """
        if self.layout == "tokens":
            grid = output[:, self.prefix :]
            height, width = _grid(grid.shape[1], picture) or (0, 0)
            if not height:
                raise InputError(
                    f"{self.name!r} returned {tuple(output.shape)}, no grid of tokens over "
                    f"{tuple(picture)} pixels."
                )
            output = grid.transpose(1, 2).reshape(grid.shape[0], -1, height, width)
        elif self.layout == "last":
            output = output.permute(0, 3, 1, 2)
        return output if output.dtype in (torch.float32, torch.float64) else output.float()

    def write(self, maps: Tensor, output: Tensor) -> Tensor:
        """The reverse of `read`: what the module would have returned for these maps; a token before
        the grid is `output`'s.
        """
        maps = maps.to(output.dtype)
        if self.layout == "tokens":
            return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)
        return maps.permute(0, 2, 3, 1) if self.layout == "last" else maps


@final
@dataclass(frozen=True)
class Call:
    """One call of one module: its dotted name, the module, its first tensor input and its output."""

    name: str
    module: nn.Module
    given: Tensor | None
    output: Tensor


@final
@dataclass
class ActivationRecorder:
    """Keeps what chosen modules return while a box answers; its hooks are gone when the block ends."""

    outputs: dict[str, list[Tensor]] = field(default_factory=dict)

    @contextmanager
    def on(self, module: nn.Module, names: Sequence[str]) -> Iterator[None]:
        """Listen to the modules of these names."""
        handles = self.stay(module, names)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def stay(self, module: nn.Module, names: Sequence[str]) -> list[RemovableHandle]:
        """Listen for good, which only a module of our own may be asked for, or until the handles
        are removed.
        """
        layers = [named(module, name) for name in names]
        return [
            layer.register_forward_hook(self._keep(name))
            for layer, name in zip(layers, names, strict=True)
        ]

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(name, []).append(output)

        return hook


def read_feature_maps(
    black_box: BlackBox, images: Images, feature_maps: Sequence[FeatureMap]
) -> tuple[Logits, tuple[Tensor, ...]]:
    """Ask a box once, and read the maps of the taps on the way.

    Args:
        black_box: A black box with a torch module inside.
        images: As the box takes them.
        feature_maps: Of that module.

    Returns:
        The logits and one tensor (B, C, h, w) per tap.

    Raises:
        InputError: The box has no module of such a name, or it was not called once per batch.
    """
    listener = ActivationRecorder()
    with (
        eager(black_box),
        listener.on(
            module_of(black_box),
            list(dict.fromkeys(feature_map.name for feature_map in feature_maps)),
        ),
    ):
        logits = black_box(images)
    maps = []
    for feature_map in feature_maps:
        parts = listener.outputs.get(feature_map.name, [])
        if sum(map(len, parts)) != len(images):
            raise InputError(
                f"{feature_map.name!r} of {name_of(module_of(black_box))} answered for {sum(map(len, parts))} "
                f"of {len(images)} images; a compiled or parallel model hides its layers: give "
                "the plain module."
            )
        maps.append(
            feature_map.read(parts[0] if len(parts) == 1 else torch.cat(parts), images.shape[2:])
        )
    return logits, tuple(maps)


def record_calls(black_box: BlackBox, images: Images) -> tuple[Logits, list[Call]]:
    """Ask a box once and keep the call of each module of its model that is called just once, in the
    order in which they ended.

    What TorchScript compiled takes no hooks, and is left out with all that is in it.
    """
    calls: list[Call] = []
    handles = []

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                first = given[0] if given and isinstance(given[0], Tensor) else None
                calls.append(Call(name, module, first, output))

        return hook

    try:
        for name, module in module_of(black_box).named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_hook(keep(name)))
        with eager(black_box):
            logits = black_box(images)
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(call.name for call in calls)
    return logits, [call for call in calls if times[call.name] == 1]


def unheard(module: nn.Module) -> str:
    """The end of a message about missing layers, where TorchScript hides some; else empty.

    Args:
        module: The classifier's.

    Example:
        >>> unheard(torch.jit.script(nn.ReLU()))
        ' TorchScript shows no layers: give the Python module that it was made from.'
    """
    hidden = any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    return (
        " TorchScript shows no layers: give the Python module that it was made from."
        if hidden
        else ""
    )


@contextmanager
def eager(black_box: BlackBox) -> Iterator[None]:
    """A compiled model runs its own Python code meanwhile, whose layers can be heard; others run as
    they do.
    """
    compiled = (
        getattr(black_box, "model", black_box.module) is not black_box.module
        or getattr(black_box.module, "_compiled_call_impl", None) is not None
    )
    stance = getattr(torch.compiler, "set_stance", None) if compiled else None  # since torch 2.6
    if stance is None:
        yield
    else:
        with stance("force_eager"):
            yield


def at_once(black_box: BlackBox, images: Images, most: int) -> Images:
    """The first of some pictures, as many as one call of the box's model takes: a watched model is
    called once.
    """
    return images[: min(most, black_box.max_batch or most)]


def as_feature_map(call: Call, images: Images) -> FeatureMap | None:
    """The call's output as a tap, or None where it is no map over the picture."""
    shape, picture = tuple(call.output.shape), images.shape[2:]
    if (
        shape[0] != len(images)
        or not call.output.is_floating_point()
        or type(call.module).__name__.startswith(_SKIPPED)
    ):
        return None
    if len(shape) == 4:
        if _fits(shape[2:], picture):
            return FeatureMap(call.name, "maps", shape[1], (shape[2], shape[3]))
        if _fits(shape[1:3], picture):
            return FeatureMap(call.name, "last", shape[3], (shape[1], shape[2]))
    if len(shape) == 3:
        for prefix in _PREFIXES:
            grid = _grid(shape[1] - prefix, picture)
            if grid is not None:
                return FeatureMap(call.name, "tokens", shape[2], grid, prefix)
    return None


def pyramid(
    calls: Sequence[Call], images: Images, coarse: FeatureMap, finest: tuple[int, int]
) -> tuple[FeatureMap, ...]:
    """The taps of a decoder, fine to coarse: one per side, from `finest` to the side of `coarse`,
    which comes last.

    Of the modules with equal side the outermost is taken, and of those the last: a block rather
    than a convolution inside the next one. Where the network keeps one side throughout (a plain
    transformer), two earlier blocks are taken.
    """
    found = [
        feature_map for call in calls if (feature_map := as_feature_map(call, images)) is not None
    ]
    by_side: dict[tuple[int, int], list[FeatureMap]] = {}
    for feature_map in found:
        by_side.setdefault(feature_map.side, []).append(feature_map)
    chosen: list[FeatureMap] = []
    for side in sorted(by_side):
        if coarse.side[0] * _APART < side[0] <= finest[0] + 1:
            best = _outermost(by_side[side])
            if (
                chosen and side[0] < chosen[-1].side[0] * _APART
            ):  # 28 and, where something was padded, 29
                chosen[-1] = min(
                    chosen[-1], best, key=lambda feature_map: feature_map.name.count(".")
                )
            else:
                chosen.append(best)
    if not chosen:
        same = [
            feature_map
            for feature_map in by_side.get(coarse.side, [])
            if feature_map.name != coarse.name
        ]
        parents = [feature_map.name.rpartition(".")[0] for feature_map in same]
        row = [
            feature_map
            for feature_map, parent in zip(same, parents, strict=True)
            if parents.count(parent) == max(map(parents.count, parents))
        ]
        chosen = [row[len(row) // 6], row[len(row) // 2]] if len(row) > 2 else row[:1]
        return (*chosen, coarse)
    return (*reversed(chosen[:_LEVELS]), coarse)


def _outermost(feature_maps: Sequence[FeatureMap]) -> FeatureMap:
    depth = min(feature_map.name.count(".") for feature_map in feature_maps)
    return [feature_map for feature_map in feature_maps if feature_map.name.count(".") == depth][-1]


def module_of(black_box: BlackBox) -> nn.Module:
    """The torch module inside a box.

    Raises:
        InputError: There is none.
    """
    if black_box.module is None:
        raise InputError(
            f"{name_of(black_box)} shows no torch module, so its feature maps cannot be read; use a "
            "network with an encoder of its own: fit(..., encoder='own') or encoder='paper'."
        )
    return black_box.module


def named(module: nn.Module, name: str) -> nn.Module:
    """A layer by its dotted name.

    Raises:
        InputError: There is none.
    """
    try:
        return module.get_submodule(name)
    except AttributeError:
        raise InputError(
            f"{name_of(module)} has no layer {name!r}; this masker was made for another model."
        ) from None


def _fits(side: Sequence[int], picture: Sequence[int]) -> bool:
    """Is this a grid over such a picture: the same aspect, at least 2 x 2, and smaller unless the
    picture is small itself?
    """
    height, width = side
    if min(height, width) < 2 or abs(height * picture[1] / picture[0] - width) > 1:
        return False
    return height * 2 <= picture[0] + 1 or (height == picture[0] and max(picture) <= 64)


def _grid(count: int, picture: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of a grid of `count` tokens with the aspect of the picture."""
    if count < 4:
        return None
    height = round(math.sqrt(count * picture[0] / picture[1]))
    if height < 2 or count % height or height * 2 > picture[0]:
        return None
    width = count // height
    # 20 is 4 x 4 and registers, not 4 x 5
    return (height, width) if abs(height * picture[1] / picture[0] - width) < 1 else None
