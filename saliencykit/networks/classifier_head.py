"""Head: what a classifier's head looks for, one vector per class, found by watching the classifier
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_maps import (
    Call,
    FeatureMap,
    as_feature_map,
    at_once,
    eager,
    module_of,
    named,
    record_calls,
    unheard,
)
from saliencykit.networks.tolerance import close_to_rounding

_WATCHED = 3  # pictures; the outputs of all layers are held for them
_PICTURES = 4  # that a head is linearised at
_COSTLY = (
    10**10
    # classes times weights after the map: more are not worth the time, and their rows start at
    # random
)


_known: "WeakKeyDictionary[nn.Module, dict[tuple[object, ...], tuple[FeatureMap, str] | None]]" = (
    WeakKeyDictionary()
)
"""Where a model's head was found, by the size of picture."""


@final
@dataclass(frozen=True)
class Head:
    """Where a classifier's evidence is read from, and with which vector per class.

    Attributes:
        feature_map: The coarsest feature map.
        weight: (K, C), what each class looks for in it.
        bias: (K,).
        layer: The name of the linear layer if `mean over positions of X . weight_c + bias_c` *is*
            the logit (or was, before a last rectifier): the rows are then exactly the head's own.
            None where they are an estimate, to be trained.
    """

    feature_map: FeatureMap
    weight: Tensor
    bias: Tensor
    layer: str | None

    @property
    def exact(self) -> bool:
        """Are these the head's own rows?"""
        return self.layer is not None


def find_head(black_box: BlackBox, images: Images) -> Head:
    """Find the head's rows by watching a box answer about a few pictures.

    Exact where the head is pooling and one linear layer, or a 1x1 convolution and pooling (most
    convolutional networks, Swin). With a class token the rows are the linear layer's, but the map
    holds the other tokens. Everywhere else the head is linearised: `weight_c` is the mean gradient
    of the logit with respect to the last map, summed over positions, as in Grad-CAM; where that
    would take too long (many classes behind large layers) the rows are random.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), B >= 1, as the box takes them; rows that are linearised depend on
            them.

    Raises:
        InputError: The box has no module, or none of its layers is a map over the picture.

    References:
        Zhou et al. 2016, "Learning Deep Features for Discriminative Localization"; Selvaraju et al.
        2017, Grad-CAM, equation 1.
    """
    several = (
        torch.cat([images, images.flip(-1), images.flip(-2)]) if len(images) < _WATCHED else images
    )
    probe = at_once(black_box, several, _WATCHED)
    with torch.no_grad():
        logits, calls = record_calls(black_box, probe)
    feature_maps = [
        (feature_map, call)
        for call in calls
        if (feature_map := as_feature_map(call, probe)) is not None
    ]
    if not feature_maps:
        raise InputError(
            f"none of the {len(calls)} layers of {type(module_of(black_box)).__name__} gives a map over "
            "the picture, so it has no trunk to share; use encoder='own' or "
            f"encoder='paper'.{unheard(module_of(black_box))}"
        )
    found = _linear_head(logits, calls, feature_maps, probe) or _convolutional_head(
        logits, calls, feature_maps
    )
    return (
        found
        if found is not None
        else _linearized(black_box, images, [feature_map for feature_map, _ in feature_maps], calls)
    )


def pooled_head(black_box: BlackBox, images: Images) -> Head | None:
    """The head's own rows where it is pooling and a linear layer, or a 1x1 convolution and pooling;
    None where it is not.

    Nothing depends on the pictures but their size: it is looked for once, with noise, and
    remembered as long as the model lives.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), as the box takes them; only their shape, dtype and device count.

    Raises:
        InputError: The box has no module.
    """
    known = _known.setdefault(black_box.source_module or module_of(black_box), {})
    size = tuple(images.shape[1:])
    key = (getattr(black_box, "outputs", None), *size)  # one model may be read in two ways
    if key not in known:
        noise = rng.uniform(
            images.new_zeros(1, *size),
            (_WATCHED, *size),
            generator=torch.Generator().manual_seed(0),
        )[0]
        probe = at_once(black_box, noise, _WATCHED)
        with torch.no_grad():
            logits, calls = record_calls(black_box, probe)
        feature_maps = [
            (feature_map, call)
            for call in calls
            if (feature_map := as_feature_map(call, probe)) is not None
        ]
        head = _linear_head(logits, calls, feature_maps, probe) or _convolutional_head(
            logits, calls, feature_maps
        )
        known[key] = None if head is None or head.layer is None else (head.feature_map, head.layer)
    if (found := known[key]) is None:
        return None
    feature_map, layer = found
    return Head(feature_map, *rows_of(module_of(black_box), layer), layer)


def rows_of(module: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
    """Weight (K, C) and bias (K,) of a linear layer or 1x1 convolution, by name, detached copies in
    float32.
    """
    head = named(module, layer)
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if not isinstance(weight, Tensor):
        raise InputError(
            f"{layer!r} of {type(module).__name__} has no weights; this masker was made for "
            "another model."
        )
    rows = weight.detach().flatten(1).float().clone()
    return rows, rows.new_zeros(len(rows)) if not isinstance(
        bias, Tensor
    ) else bias.detach().float().clone()


def _linear_head(
    logits: Logits,
    calls: Sequence[Call],
    feature_maps: Sequence[tuple[FeatureMap, Call]],
    probe: Images,
) -> Head | None:
    """A linear layer, or a convolution that is one, whose input is the mean of a map, or one of its
    tokens.
    """
    for call in reversed(calls):
        pointwise = (
            isinstance(call.module, nn.Conv2d)
            and call.module.groups == 1
            and call.output.shape[2:] == (1, 1)
        )
        given = None if call.given is None else call.given.flatten(1) if pointwise else call.given
        if (
            not (pointwise or isinstance(call.module, nn.Linear))
            or given is None
            or given.ndim != 2
        ):
            continue
        weight, bias = _rows(call.module)
        if weight.shape[1] != given.shape[1] or not close_to_rounding(
            call.output.flatten(1), logits
        ):
            continue
        for feature_map, source in reversed(feature_maps):
            if feature_map.channels != weight.shape[1] or len(source.output) != len(given):
                continue
            maps = feature_map.read(source.output, probe.shape[2:])
            if close_to_rounding(maps.mean((2, 3)), given.to(maps.dtype)):
                return Head(feature_map, weight, bias, call.name)
            if feature_map.prefix and close_to_rounding(source.output[:, 0], given):
                return Head(feature_map, weight, bias, None)
        return None
    return None


def _convolutional_head(
    logits: Logits, calls: Sequence[Call], feature_maps: Sequence[tuple[FeatureMap, Call]]
) -> Head | None:
    """A 1x1 convolution whose output, rectified or not, is pooled into the logits."""
    for call in reversed(calls):
        module = call.module
        if (
            not isinstance(module, nn.Conv2d)
            or module.kernel_size != (1, 1)
            or module.out_channels != logits.shape[1]
        ):
            continue
        if call.given is None or min(call.output.shape[2:]) < 2:
            continue
        if not any(
            close_to_rounding(pooled, logits)
            for pooled in (call.output.mean((2, 3)), call.output.relu().mean((2, 3)))
        ):
            continue
        for feature_map, source in reversed(feature_maps):
            if (
                source.output.shape == call.given.shape
                and feature_map.layout == "maps"
                and close_to_rounding(source.output, call.given)
            ):
                return Head(feature_map, *_rows(module), call.name)
    return None


def _linearized(
    black_box: BlackBox, images: Images, feature_maps: Sequence[FeatureMap], calls: Sequence[Call]
) -> Head:
    """Gradients of every logit with respect to the last map that all its positions reach the logits
    from.
    """
    module = module_of(black_box)
    images = at_once(black_box, images, _PICTURES)
    for feature_map in reversed(feature_maps):
        held: list[Tensor] = []

        def cut(layer: nn.Module, given: Any, output: Tensor, held: list[Tensor] = held) -> Tensor:
            held.append(output.detach().requires_grad_())
            return held[-1] * 1  # the model may work in place on it

        handle = module.get_submodule(feature_map.name).register_forward_hook(cut)
        try:
            with torch.enable_grad(), eager(black_box):
                logits = black_box(images)
        finally:
            handle.remove()
        if len(held) != 1 or not logits.requires_grad:
            continue
        # of a sigmoid the first logit is a fixed 0
        slopes = feature_map.read(_slopes(logits.float(), held[0], -1), images.shape[2:])
        if bool(((slopes != 0).any(1).float().mean() < 0.5).cpu()):
            continue  # a class token alone reaches the logits
        if _weights_after(feature_map, calls) * logits.shape[1] > _COSTLY:
            spread = torch.randn(
                logits.shape[1], feature_map.channels, generator=torch.Generator().manual_seed(0)
            )
            return Head(
                feature_map,
                (spread / feature_map.channels**0.5).to(slopes),
                slopes.new_zeros(logits.shape[1]),
                None,
            )
        rows = [
            feature_map.read(_slopes(logits.float(), held[0], column), images.shape[2:])
            .sum((2, 3))
            .mean(0)
            for column in range(logits.shape[1])
        ]
        weight = torch.stack(rows).float()
        pooled = feature_map.read(held[0].detach(), images.shape[2:]).mean((2, 3)).float()
        bias = (logits.detach().float() - pooled @ weight.T).mean(0)
        return Head(feature_map, weight, bias, None)
    raise InputError(
        f"no layer of {type(module).__name__} passes a gradient from the logits to a map over the "
        "picture; use encoder='own'."
    )


def _slopes(logits: Tensor, maps: Tensor, column: int) -> Tensor:
    """The gradient of one column of the logits, summed over the batch, with respect to the maps."""
    with torch.enable_grad():  # the caller may have turned it off
        return torch.autograd.grad(logits[:, column].sum(), maps, retain_graph=True)[0]


def _weights_after(feature_map: FeatureMap, calls: Sequence[Call]) -> int:
    names = [call.name for call in calls]
    later = {
        id(p): p.numel()
        for call in calls[names.index(feature_map.name) + 1 :]
        for p in call.module._parameters.values()
        if p is not None
    }
    return sum(later.values())


def _rows(module: nn.Module) -> tuple[Tensor, Tensor]:
    return rows_of(nn.ModuleDict({"head": module}), "head")
