"""PretrainedEncoder: a network beside the black box, frozen, as the encoder of a masker."""

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.optional_packages import required
from saliencykit.core.types import Images, Logits
from saliencykit.core.visible_text import first_line
from saliencykit.maskers.realtime.encoder import Encoder, Features, default_stride
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.feature_pyramid import feature_pyramid
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.module_state import restored_rng_state
from saliencykit.networks.optimized_copy import optimize
from saliencykit.networks.private_copy import source_of
from saliencykit.storage.hub_access import no_retries_when_offline

TIMM_TEXT = r"timm:[a-z0-9_.]+(,pretrained=false)?"
"""The text form of a network of timm: a name, and no address."""
_USUAL_SIDE = 224  # images of networks that were trained on larger ones are made smaller, to this


def is_text(encoder: object) -> bool:
    """Is it the text form of a network of timm?"""
    return isinstance(encoder, str) and re.fullmatch(TIMM_TEXT, encoder) is not None


@final
class TimmNetwork(BlackBox):
    """A network of timm without its head: pixels to pooled features.

    Args:
        text: `timm:NAME`, or `timm:NAME,pretrained=false` for random weights, which are always the
            same.
        size: Height and width of the images that it will see. Networks for a larger size take this
            one, or 224, where they can be rebuilt for it.

    Raises:
        InputError: timm is not installed or has no such network, or its weights are unavailable.
    """

    differentiable = True

    def __init__(self, text: str, size: tuple[int, int]) -> None:
        name, _, random = text.removeprefix("timm:").partition(",")
        timm = required("timm", f"encoder={text!r}", "timm")
        try:
            with restored_rng_state(), no_retries_when_offline():
                torch.default_generator.manual_seed(0)
                model = timm.create_model(name, pretrained=not random, num_classes=0)
        except Exception as error:
            raise InputError(
                f"encoder={text!r}: timm cannot make the network {name!r}: {first_line(error)}. "
                "Without internet access give a network with local weights, "
                f"encoder='timm:{name},checkpoint=FILE', use encoder='own', or "
                f"'timm:{name},pretrained=false' for random weights."
            ) from error
        config: dict[str, Any] = timm.data.resolve_model_data_config(model)
        self.mean, self.std = (tuple(map(float, config[key])) for key in ("mean", "std"))
        _, height, width = config["input_size"]
        self.input_size = _fit_size(model, (height, width), size)
        self.module: nn.Module = model.eval().requires_grad_(False)
        shape = (1, len(self.mean), *self.input_size)
        with torch.no_grad():
            gray = torch.full(shape, 0.5, dtype=torch.float32, device="cpu")
            self.num_classes = model(gray).flatten(1).shape[1]

    def __repr__(self) -> str:
        """The architecture."""
        return f"TimmNetwork({name_of(self.module)})"

    @property
    def source_module(self) -> nn.Module:
        """The network itself, also for an optimized copy."""
        return source_of(self.module)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Of the weights."""
        return next(self.module.parameters()).device

    def optimized_for(self, images: Images) -> "TimmNetwork":
        """With batch norms folded, see `optimize`."""
        twin, made = copy.copy(self), optimize(self.module, self._normalized(images))
        twin.module, twin.max_batch_size = made.model, made.max_batch_size
        return twin

    def logits(self, images: Images) -> Logits:
        """The pooled features, (B, C)."""
        features: Tensor = self.module(self._normalized(images))
        return features.flatten(1)

    def _normalized(self, images: Images) -> Images:
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std


def _fit_size(model: Any, own: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The input size of a network: its own, or a smaller one where it can be rebuilt for that."""
    wanted = (min(own[0], max(size[0], _USUAL_SIDE)), min(own[1], max(size[1], _USUAL_SIDE)))
    if not hasattr(model, "set_input_size"):
        return wanted  # convolutions take any size
    if wanted == own:
        return own
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))
    wanted = (wanted[0] // patch[0] * patch[0], wanted[1] // patch[1] * patch[1])
    try:
        model.set_input_size(img_size=wanted)
    except (RuntimeError, ValueError, AssertionError):  # windows that do not fit
        return own
    return wanted


@final
class PretrainedEncoder(Encoder):
    """A network beside the black box, frozen: any network of timm, or a classifier of your own.

    For black boxes that expose no feature maps, and for networks whose features localize better
    than the black box's. Takes the black box's raw pixels, resizes them to the network's size, and
    leaves the rest to the network. Its weights are not part of the masker and not in its file,
    which holds the name and a fingerprint.

    Args:
        network: `timm:NAME`, `timm:NAME,pretrained=false` for random weights (tests and timings),
            or a black box with a torch module inside, which is copied.
        size: Height and width of the black box's images.
        feature_maps: The layers that are read, fine to coarse; None: chosen as those of a trunk.
        fingerprint: Of the weights that are expected; None: any.

    Raises:
        InputError: The network or its weights are unavailable, it has no feature maps, or its
            weights are others than expected.

    References:
        Dabkowski & Gal 2017, section 4 (a ResNet-50); frozen transformers as encoders: "TriLite",
        CVPR 2026.
    """

    kind = "network"

    def __init__(
        self,
        network: str | BlackBox = "timm:resnet50",
        size: tuple[int, int] = (224, 224),
        *,
        feature_maps: Sequence[FeatureMap] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        self.size = (size[0], size[1])
        self.text = network if isinstance(network, str) else None
        if isinstance(network, str):
            if not is_text(network):
                raise InputError(
                    f"PretrainedEncoder({network!r}): expected 'timm:NAME', "
                    "'timm:NAME,pretrained=false', or a black box, TorchBlackBox(network, ...)."
                )
            network = TimmNetwork(network, self.size)
        else:
            module_of(network)  # refuses black boxes without one
            network = copy.deepcopy(network)
        self.network: BlackBox = network  # a black box is no submodule: its weights are not stored
        self.input_size = _input_size(network) or self.size
        self._optimized: BlackBox | None = None
        if feature_maps is None:
            feature_maps = feature_pyramid(network, self._gray(2), _finest(self.input_size, size))
        self.feature_maps = tuple(feature_maps)
        self.channels = tuple(each.channels for each in self.feature_maps)
        self.sides = tuple(each.side for each in self.feature_maps)
        if fingerprint not in (None, self.fingerprint):
            raise InputError(
                f"the network {self.text or name_of(network.module)} has other weights than the "
                "one that this masker was trained with; its masks would be meaningless."
            )

    @property
    def fingerprint(self) -> str | None:
        """Of the network's weights."""
        return fingerprint(self.network)

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The network's feature maps; the black box is not queried."""
        if self._optimized is None:
            self._optimized = self.network.optimized_for(self._gray(2))
        resized = resize_maps(images, self.input_size)
        with torch.no_grad():
            _, maps = read_feature_maps(self._optimized, resized, self.feature_maps)
        return Features(maps, None, (images.shape[2], images.shape[3]))

    def options(self) -> dict[str, Any]:
        """The network's name, where it has one, the layers, and the fingerprint."""
        maps = [asdict(each) for each in self.feature_maps]
        options = {"network": self.text, "size": self.size, "fingerprint": self.fingerprint}
        return options | {"feature_maps": maps}

    def _gray(self, count: int) -> Images:
        channels = len(getattr(self.network, "mean", None) or (0, 0, 0))
        shape, device = (count, channels, *self.input_size), self.network.device
        return torch.full(shape, 0.5, dtype=torch.float32, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PretrainedEncoder":
        module_of(self.network)._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._optimized = None
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretrainedEncoder":
        """A copy with weights of its own, not yet optimized."""
        twin = copy.copy(self)
        twin.network, twin._optimized = copy.deepcopy(self.network, memo), None
        return twin


def _input_size(network: BlackBox) -> tuple[int, int] | None:
    try:
        size: tuple[int, int] | None = getattr(network, "input_size", None)
    except InputError:  # a TorchBlackBox without a size
        return None
    return size


def _finest(input_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The side of the finest map that is of use: that of the mask."""
    stride = default_stride(size)
    return (
        min(input_size[0] // default_stride(input_size), -(-size[0] // stride)),
        min(input_size[1] // default_stride(input_size), -(-size[1] // stride)),
    )
