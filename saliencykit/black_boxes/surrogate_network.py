"""Networks that learn to answer like a box: a small one from nothing, timm's by name, or somebody's
own.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError

_WIDTHS = (16, 48, 96, 128)  # the finest maps cost most and learn least
_COARSEST = 8  # sides of the last maps, at most


@final
class SurrogateNetwork(nn.Module):
    """A small classifier that learns from nothing: stages of 3x3 convolutions, mean pooling, one
    linear layer.

    Its last maps have sides of 5 to 8, and pooling and one linear layer are all that follows: a
    masker reads off the layer's rows where each class is. 3 thousand weights for pictures of 8 px,
    0.03 to 0.5 million for larger ones.

    Args:
        num_classes: K, >= 1.
        size: Height and width of the pictures it is made for, in pixels.
        channels_in: Channels of the pictures.
        widths: Channels of the stages, fine to coarse; as many are used as the size has room for.
        depth: Convolutions a stage, >= 1.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> import torch
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
                f"{depth}): all are >= 1."
            )
        self.arguments = {
            "num_classes": num_classes,
            "size": list(size),
            "channels_in": channels_in,
            "widths": list(widths),
            "depth": depth,
        }
        halvings = 0
        while min(size) / 2**halvings > _COARSEST:
            halvings += 1
        stem = 2 ** max(0, halvings - len(widths) + 1)
        used = widths[: min(halvings, len(widths) - 1) + 1]
        stages: list[nn.Module] = []
        before = channels_in
        for number, width in enumerate(used):
            layers: list[nn.Module] = []
            for layer in range(depth):
                stride = (stem if number == 0 else 2) if layer == 0 else 1
                kernel = 7 if stride > 2 else 3
                layers += [
                    nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                before = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.head(self.pool(self.stages(images)).flatten(1))
        return logits


def make_network(
    wanted: str | nn.Module | None, num_classes: int, size: tuple[int, int], channels: int
) -> tuple[nn.Module, dict[str, Any], tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """The network of a surrogate, how a file says what it is, and the pixel statistics that it
    wants (None: any).

    Args:
        wanted: None or `own`: a SurrogateNetwork; a name of timm with its weights, `resnet18` or
            `timm:resnet18,pretrained=false`; or a module, which is copied.
        num_classes: K.
        size: Height and width of the pictures.
        channels: Of the pictures.

    Raises:
        InputError: timm is not installed or has no such model, or it is something else.
    """
    if wanted is None or wanted == "own":
        wanted = SurrogateNetwork(num_classes, size, channels)
    if isinstance(wanted, SurrogateNetwork):
        return copy.deepcopy(wanted), {"kind": "own"} | wanted.arguments, None
    if isinstance(wanted, nn.Module):
        return copy.deepcopy(wanted), {"kind": "module", "class": name_of(wanted)}, None
    if not isinstance(wanted, str):
        raise InputError(
            f"network is None, 'own', a name of timm, or an nn.Module; got {name_of(wanted)}."
        )
    name, *rest = wanted.removeprefix("timm:").split(",")
    if rest not in ([], ["pretrained=false"], ["pretrained=true"]):
        raise InputError(
            f"network={wanted!r}: write 'timm:{name}' or 'timm:{name},pretrained=false'."
        )
    if channels != 3:
        raise InputError(
            f"network={wanted!r} takes RGB, and the pictures have {channels} channels; use "
            "network='own'."
        )
    try:
        from saliencykit.black_boxes.timm import timm_black_box

        made = timm_black_box(
            name, pretrained=rest != ["pretrained=false"], num_classes=num_classes
        )
    except ImportError:
        raise InputError(
            f"network={wanted!r} is a model of timm; pip install 'saliencykit[timm]', or use "
            "network='own'."
        ) from None
    statistics = (
        None if made.mean is None or made.std is None else (tuple(made.mean), tuple(made.std))
    )
    return made.model, {"kind": "timm", "name": name, "num_classes": num_classes}, statistics


def build_network(architecture: Mapping[str, Any]) -> nn.Module:
    """The network that a file describes, its weights still to be read.

    Args:
        architecture: As `make_network` said it, and JSON gave it back.

    Raises:
        InputError: It was somebody's own module.
        ValueError: There is no such kind.
    """
    options = dict(architecture)
    kind = options.pop("kind")
    if kind == "own":
        return SurrogateNetwork(**options)
    if kind == "timm":
        from saliencykit.black_boxes.timm import timm_black_box

        return timm_black_box(
            options["name"], pretrained=False, num_classes=options["num_classes"]
        ).model
    if kind == "module":
        raise InputError(
            f"this surrogate is a {options['class']}, which the file cannot make; write "
            "Surrogate.load(path, network=...) with one."
        )
    raise ValueError(f"no network is called {kind!r}")
