"""Rest: a classifier from one of its layers on, for late mixing."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images, Logits
from saliencykit.maskers.realtime.taps import Call, Tap, as_tap, at_once, module_of, watch

_EARLY = 0.45  # of the multiplications: mixing later costs less and agrees less with mixing pixels
_FINE, _FINER = 17, 9  # a layer's side is at least 1/17 of the picture's (transformers), better 1/9
_TRIES = 40
_CLOSE = 1e-3


@final
class Rest:
    """The part of a classifier after one of its layers, asked about that layer's output.

    Late mixing: instead of composing pixels and running the whole network, `M * features(X) + (1 - M) * features(A)` is formed at
    an early layer and only the rest runs. On a CPU it is what makes training quick. It is an approximation (kept and dropped
    log-probabilities correlate at 0.7 to 0.9 with those of composed pictures, and are too low), so training ends with those.

    Nothing is traced: in a copy of the network the layers before are replaced by ones that return zeros, and the layer itself by
    one that returns what is asked about. The copy must give the same logits as the network for its own features, else the layer is
    no place to cut at.

    Args:
        box: A frozen copy of the black box, owned by this object.
        tap: The layer.
        calls: What was seen when the network ran.
    """

    def __init__(self, box: BlackBox, tap: Tap, calls: Sequence[Call]) -> None:
        self.box, self.tap = box, tap
        self._given: Tensor | None = None
        self._next = 0
        module = module_of(box)
        order = [call.name for call in calls]
        before = set(order[: order.index(tap.name)])
        parents = {tap.name.rsplit(".", n)[0] for n in range(1, tap.name.count(".") + 1)}
        shapes = {call.name: call.output.shape[1:] for call in calls}
        self._token = next(call.output[:1].detach() for call in calls if call.name == tap.name)
        for name in before - parents:
            above = {name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)}
            if not above & (before - parents) and name in shapes:
                layer = module.get_submodule(name)
                layer.forward = _Zeros(shapes[name], self._token)
        module.get_submodule(tap.name).forward = self._hand_over

    def __call__(self, maps: Tensor, size: Sequence[int]) -> Logits:
        """The logits for maps (B, C, h, w) at the layer; `size` is (C, H, W) of the pictures. Gradients flow to the maps."""
        self._given, self._next = self.tap.write(maps, self._token.expand(len(maps), *self._token.shape[1:])), 0
        try:
            return self.box(maps.new_zeros(len(maps), *size))
        finally:
            self._given = None

    def forget_picture(self, calls: Sequence[Call]) -> None:
        """Tokens that stand before the grid are from now on the mean of those seen, no longer the first picture's."""
        self._token = next(call.output.detach().mean(0, keepdim=True) for call in calls if call.name == self.tap.name)

    def _hand_over(self, given: Tensor, *_: Any, **__: Any) -> Tensor:
        assert self._given is not None
        rows = self._given[self._next : self._next + len(given)]
        self._next += len(given)
        return rows


def find_rest(box: BlackBox, images: Images) -> Rest | None:
    """The latest good place to cut a classifier at: at most 45 % of its multiplications before it, verified.

    Args:
        box: With a torch module inside.
        images: (B, C, H, W), B >= 2, as the box takes them.

    Returns:
        None where there is no such layer (dense connections, an architecture that runs its own way).
    """
    images = at_once(box, images, 2)
    with torch.no_grad():
        logits, calls = watch(box, images)
    total = sum(map(_multiplications, calls))
    done, places = 0, []
    for call in calls:
        done += _multiplications(call)
        tap = as_tap(call, images)
        if tap is not None and done <= _EARLY * total and tap.side[0] * _FINE >= images.shape[2]:
            places.append((tap, tap.read(call.output[:1], images.shape[2:]).detach()))
    places = [place for place in places if place[0].side[0] * _FINER >= images.shape[2]] or places
    small = 2 * min((maps.numel() for _, maps in places[len(places) // 2 :]), default=0)
    for tap, maps in reversed([place for place in places if place[1].numel() <= small][-_TRIES:]):
        copy = box.for_many(images)
        if copy is box or module_of(copy) is module_of(box):
            return None
        try:
            rest = Rest(copy, tap, calls)
            with torch.no_grad():
                again = rest(maps, images.shape[1:])
        except Exception:  # a layer that cannot do without the ones before it
            continue
        scale = (logits.amax() - logits.amin()).clamp_min(1e-12)
        if again.shape == logits[:1].shape and bool((again - logits[:1]).abs().max() <= _CLOSE * scale):
            rest.forget_picture(calls)
            return rest
    return None


class _Zeros:
    """Stands for a layer whose output is not needed."""

    def __init__(self, shape: torch.Size, like: Tensor) -> None:
        self.shape, self.like = shape, like

    def __call__(self, given: Any = None, *_: Any, **__: Any) -> Tensor:
        count = len(given) if isinstance(given, Tensor) else 1
        return self.like.new_zeros(count, *self.shape)


def _multiplications(call: Call) -> int:
    weight = getattr(call.module, "weight", None)
    if not isinstance(call.module, nn.Conv2d | nn.Linear) or not isinstance(weight, Tensor) or not weight.numel():
        return 0
    return call.output.numel() * weight[0].numel()
