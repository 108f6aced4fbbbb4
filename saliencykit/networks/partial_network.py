"""Rest: a classifier from one of its layers on."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.networks.feature_maps import Call, FeatureMap, module_of, record_calls
from saliencykit.networks.tolerance import close_to_rounding


@final
class PartialNetwork:
    """The part of a classifier after one of its layers, asked about that layer's output.

    Nothing is traced: in a copy of the network the layers before are replaced by ones that return
    zeros, and the layer itself by one that returns what is asked about. The copy must give the same
    logits as the network for its own features, else the layer is no place to cut at.

    Args:
        black_box: A frozen copy of the black box, owned by this object.
        feature_map: The layer.
        calls: What was seen when the network ran; the layers before this one in it are replaced.
    """

    def __init__(self, black_box: BlackBox, feature_map: FeatureMap, calls: Sequence[Call]) -> None:
        self.black_box, self.feature_map = black_box, feature_map
        self._given: Tensor | None = None
        self._next = 0
        module = module_of(black_box)
        order = [call.name for call in calls]
        before = set(order[: order.index(feature_map.name)])
        parents = {
            feature_map.name.rsplit(".", n)[0] for n in range(1, feature_map.name.count(".") + 1)
        }
        shapes = {call.name: call.output.shape[1:] for call in calls}
        self._token = next(
            call.output[:1].detach() for call in calls if call.name == feature_map.name
        )
        for name in before - parents:
            above = {name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)}
            if not above & (before - parents) and name in shapes:
                layer = module.get_submodule(name)
                layer.forward = _Zeros(shapes[name], self._token)
        module.get_submodule(feature_map.name).forward = self._hand_over

    def __call__(self, maps: Tensor, size: Sequence[int]) -> Logits:
        """The logits for maps (B, C, h, w) at the layer; `size` is (C, H, W) of the pictures.
        Gradients flow to the maps.
        """
        self._given, self._next = (
            self.feature_map.write(maps, self._token.expand(len(maps), *self._token.shape[1:])),
            0,
        )
        try:
            return self.black_box(maps.new_zeros(len(maps), *size))
        finally:
            self._given = None

    def forget_picture(self, calls: Sequence[Call]) -> None:
        """Tokens that stand before the grid are from now on the mean of those seen, no longer the
        first picture's.
        """
        self._token = next(
            call.output.detach().mean(0, keepdim=True)
            for call in calls
            if call.name == self.feature_map.name
        )

    def follow(self, output: Tensor) -> None:
        """Tokens that stand before the grid are from now on those of this output of the layer, (1,
        N, C).
        """
        self._token = output

    def _hand_over(self, given: Tensor, *_: Any, **__: Any) -> Tensor:
        assert self._given is not None
        rows = self._given[self._next : self._next + len(given)]
        self._next += len(given)
        return rows


def network_after(black_box: BlackBox, image: Images, feature_map: FeatureMap) -> PartialNetwork:
    """The classifier from this layer on, in a copy; verified on the picture.

    Where the model cannot do without the layers before (dense connections), they run on an empty
    picture, and nothing is saved.

    Args:
        black_box: With a torch module inside, which is left alone.
        image: (1, C, H, W).
        feature_map: The layer.

    Raises:
        InputError: The model cannot be copied, or what comes before the layer also reaches the
            logits some other way.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4))
        >>> black_box, image = TorchBlackBox(net), torch.rand(1, 3, 8, 8)
        >>> partial_network = network_after(black_box, image, FeatureMap("1", "maps", 8, (6, 6)))
        >>> bool((partial_network(net[:2](image), image.shape[1:]) - box(image)).abs().max() < 1e-4)
        True
    """
    with torch.no_grad():
        logits, calls = record_calls(black_box, image)
        own = [call for call in calls if call.name == feature_map.name]
        for known in (calls, own):
            twin = black_box.optimized_for(image)
            if twin is black_box or module_of(twin) is module_of(black_box):
                raise InputError(
                    f"{name_of(module_of(black_box))} cannot be copied, so it cannot be cut; use "
                    "masker='grad-cam'."
                )
            try:
                partial_network = PartialNetwork(twin, feature_map, known)
                again = partial_network(
                    feature_map.read(own[0].output, image.shape[2:]), image.shape[1:]
                )
            except Exception:  # a layer that cannot do without the ones before it
                continue
            if close_to_rounding(again, logits):
                return partial_network
    raise InputError(
        f"the logits of {name_of(module_of(black_box))} do not depend on the output of {feature_map.name!r} "
        "alone; name a layer=... that everything passes through, or use masker='grad-cam'."
    )


@final
class _Zeros:
    """Stands for a layer whose output is not needed."""

    def __init__(self, shape: torch.Size, like: Tensor) -> None:
        self.shape, self.like = shape, like

    def __call__(self, given: Any = None, *_: Any, **__: Any) -> Tensor:
        count = len(given) if isinstance(given, Tensor) else 1
        return self.like.new_zeros(count, *self.shape)
