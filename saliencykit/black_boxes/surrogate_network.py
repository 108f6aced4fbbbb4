"""Networks for surrogates: a small one from scratch, timm's by name, or the user's own."""

import copy
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, final

import torch
from msgspec import Meta, Struct
from msgspec.structs import asdict
from torch import Tensor, nn

from saliencykit.black_boxes.timm import timm_black_box
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.storage.typed_json import Size

_WIDTHS = (16, 48, 96, 128)  # the finest maps cost most and learn least
_NAME = r"^[a-zA-Z0-9_.]+\Z"  # of timm: not an address, which it would look up
_COARSEST = 8  # largest side of the last maps


@final
class SurrogateNetwork(nn.Module):
    """A small classifier to train from scratch: stages of 3x3 convolutions, mean pooling, one
    linear layer.

    Its last maps have sides of 5 to 8, and only pooling and one linear layer follow: a masker reads
    from the class weights where each class is. 3 thousand weights for images of 8 px, 0.03 to 0.5
    million for larger ones.

    Args:
        num_classes: K, >= 1.
        size: Height and width of the images it is made for, in pixels.
        channels_in: Channels of the images.
        widths: Channels of the stages, fine to coarse; as many are used as the size has room for.
        depth: Convolutions per stage, >= 1.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> SurrogateNetwork(5, size=(32, 32)).eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        num_classes: int,
        size: Sequence[int] = (32, 32),
        channels_in: int = 3,
        widths: Sequence[int] = _WIDTHS,
        depth: int = 2,
    ) -> None:
        super().__init__()
        if min(num_classes, *size, channels_in, *widths, depth) < 1:
            raise InputError(
                f"SurrogateNetwork({num_classes}, {tuple(size)}, {channels_in}, {tuple(widths)}, "
                f"{depth}): all must be >= 1."
            )
        self.arguments = {
            "num_classes": num_classes,
            "size": tuple(size),
            "channels_in": channels_in,
            "widths": tuple(widths),
            "depth": depth,
        }
        halvings = 0
        while min(size) / 2**halvings > _COARSEST:
            halvings += 1
        stem = 2 ** max(0, halvings - len(widths) + 1)
        stages: list[nn.Module] = []
        channels = channels_in
        for number, width in enumerate(widths[: min(halvings, len(widths) - 1) + 1]):
            layers: list[nn.Module] = []
            for layer in range(depth):
                stride = (stem if number == 0 else 2) if layer == 0 else 1
                kernel = 7 if stride > 2 else 3
                layers += [
                    nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                channels = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.head(self.pool(self.stages(images)).flatten(1))
        return logits


def make_surrogate_network(
    network: str | nn.Module | None, num_classes: int, size: tuple[int, int], channels: int
) -> tuple[nn.Module, dict[str, Any], tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """The network of a surrogate, how a file describes it, and the pixel statistics that it wants
    (None: any).

    Args:
        network: None or `own`: a SurrogateNetwork; a timm model with its weights, `resnet18` or
            `timm:resnet18,pretrained=false`; or a module, which is copied.
        num_classes: K.
        size: Height and width of the images.
        channels: Of the images.

    Raises:
        InputError: timm is not installed or has no such model, or it is something else.
    """
    if network is None or network == "own":
        network = SurrogateNetwork(num_classes, size, channels)
    if isinstance(network, SurrogateNetwork):
        return copy.deepcopy(network), {"kind": "own"} | network.arguments, None
    if isinstance(network, nn.Module):
        return copy.deepcopy(network), {"kind": "module", "class": name_of(network)}, None
    if not isinstance(network, str):
        raise InputError(
            f"network must be None, 'own', a timm model, or an nn.Module; got {name_of(network)}."
        )
    name, *options = network.removeprefix("timm:").split(",")
    if options not in ([], ["pretrained=false"], ["pretrained=true"]):
        raise InputError(
            f"network={network!r}: write 'timm:{name}' or 'timm:{name},pretrained=false'."
        )
    if not re.fullmatch(_NAME, name):
        raise InputError(f"network={network!r}: give the module itself, timm.create_model(...).")
    if channels != 3:
        raise InputError(
            f"network={network!r} takes RGB, and the images have {channels} channels; use "
            "network='own'."
        )
    pretrained = options != ["pretrained=false"]
    black_box = timm_black_box(name, pretrained=pretrained, num_classes=num_classes)
    mean, std = black_box.mean, black_box.std
    statistics = None if mean is None or std is None else (tuple(mean), tuple(std))
    architecture = {"kind": "timm", "name": name, "num_classes": num_classes}
    return black_box.model, architecture, statistics


class _Own(Struct, tag_field="kind", tag="own"):
    num_classes: Annotated[int, Meta(ge=1, le=2**20)]
    size: Size
    channels_in: Annotated[int, Meta(ge=1, le=2**16)]
    widths: Annotated[tuple[Annotated[int, Meta(ge=1, le=2**16)], ...], Meta(max_length=32)]
    depth: Annotated[int, Meta(ge=1, le=64)]

    def build(self) -> nn.Module:
        with torch.device("meta"):
            return SurrogateNetwork(**asdict(self))


class _Timm(Struct, tag_field="kind", tag="timm"):
    name: Annotated[str, Meta(pattern=_NAME)]
    num_classes: Annotated[int, Meta(ge=1, le=2**17)]

    def build(self) -> nn.Module:
        return timm_black_box(self.name, pretrained=False, num_classes=self.num_classes).model


class _Module(Struct, tag_field="kind", tag="module", rename={"class_name": "class"}):
    class_name: str

    def build(self) -> nn.Module:
        raise InputError(
            f"the network of this surrogate is a {self.class_name}, which cannot be built from the "
            "file; pass one: Surrogate.load(path, network=...)."
        )


Architecture: TypeAlias = _Own | _Timm | _Module
"""How a file describes a network, as `make_surrogate_network` says; `build` makes it, with weights
that are still to be loaded.
"""


def round_to_half(network: nn.Module) -> None:
    """Round the weights to what a file stores, half precision; scalars and vectors stay as they
    are.

    Args:
        network: Changed in place.
    """
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half())
