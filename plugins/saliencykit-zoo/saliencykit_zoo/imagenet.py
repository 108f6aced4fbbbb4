"""The five ImageNet classifiers whose maskers are in the zoo; for weights see `imagenet.md`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import nn

from saliencykit import InputError, TorchBlackBox

_GET = "See saliencykit_zoo/imagenet.md for where these weights come from"


@final
@dataclass(frozen=True)
class Classifier:
    """A network without its weights, and how its images are prepared.

    Attributes:
        title: For people.
        make: The network, whose parameters have the names of the stored weights.
        size: Side of the images in pixels.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, divided by then.
        finish: Changes the filled network in place.
    """

    title: str = ""
    make: Callable[[], nn.Module] = nn.Module
    size: int = 224
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    finish: Callable[[nn.Module], None] = lambda net: None

    def factory(self, name: str) -> Callable[..., TorchBlackBox]:
        """What the plugin provides under a name."""

        def black_box(checkpoint: str | Path, *, crop_pct: float = 0.875) -> TorchBlackBox:
            net = self.make()
            _fill(net, Path(checkpoint))
            self.finish(net)
            return TorchBlackBox(
                net.eval(), mean=self.mean, std=self.std, size=self.size, crop_pct=crop_pct
            )

        black_box.__doc__ = (
            f"{self.title} at {self.size} px, from its weights as safetensors: "
            f"`zoo/{name}:checkpoint=FILE`."
        )
        return black_box


def _mobilenetv2() -> nn.Module:
    import torchvision

    net: nn.Module = torchvision.models.mobilenet_v2()
    return net


def _squeezenet() -> nn.Module:
    import torchvision

    net: nn.Module = torchvision.models.squeezenet1_0()
    return net


def _mobilenetv1_075() -> nn.Module:
    from timm.models import efficientnet

    # timm has names for the widths 1.0 and 1.25 only
    make: Callable[..., nn.Module] = efficientnet._gen_mobilenet_v1
    return make("mobilenetv1_100", 0.75, pad_type="same")


def _of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, **options)

    return make


def _pad_as_tensorflow(net: nn.Module) -> None:
    """Pad stride-2 convolutions right and below only."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(module, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), child))


CLASSIFIERS = {
    "mobilenetv2": Classifier("MobileNetV2 1.0", _mobilenetv2, finish=_pad_as_tensorflow),
    "squeezenet1-0": Classifier(
        "SqueezeNet 1.0", _squeezenet, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    "mobilenetv1-100": Classifier("MobileNetV1 1.0", _of_timm("mobilenetv1_100", pad_type="same")),
    "mobilenetv1-075": Classifier("MobileNetV1 0.75", _mobilenetv1_075, size=192),
    "efficientnet-lite0": Classifier("EfficientNet-Lite0", _of_timm("tf_efficientnet_lite0")),
}
"""By the name in the zoo."""


def imagenet_classifier(
    name: str, checkpoint: str | Path, *, crop_pct: float = 0.875
) -> TorchBlackBox:
    """One of `CLASSIFIERS` with its weights; in a text `zoo/NAME:checkpoint=FILE`.

    Args:
        name: A key of `CLASSIFIERS`.
        checkpoint: The weights as safetensors, under the names of torchvision or timm.
        crop_pct: Fraction of the resized side that the center crop keeps, in (0, 1].

    Raises:
        InputError: The file does not exist, or belongs to another network.

    Example:
        >>> imagenet_classifier("mobilenetv2", "no-such-file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no file 'no-such-file.safetensors'. See ...
    """
    return CLASSIFIERS[name].factory(name)(checkpoint, crop_pct=crop_pct)


def _fill(net: Any, checkpoint: Path) -> None:
    """Load stored weights into a network."""
    from safetensors.torch import load_file

    if not checkpoint.is_file():
        raise InputError(f"there is no file {str(checkpoint)!r}. {_GET}.")
    try:
        stored = load_file(checkpoint)
    except Exception as error:
        raise InputError(
            f"{str(checkpoint)!r} is not a valid safetensors file: {error}."
        ) from error
    values = {
        name: value for name, value in stored.items() if not name.endswith("num_batches_tracked")
    }
    wanted = {
        name: value
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if set(values) != set(wanted):
        raise InputError(
            f"{str(checkpoint)!r} has {len(values)} tensors, with other names than "
            f"{type(net).__name__}'s. {_GET}."
        )
    try:
        net.load_state_dict({name: value.float() for name, value in values.items()}, strict=False)
    except RuntimeError as error:
        raise InputError(
            f"{str(checkpoint)!r} belongs to another network: "
            f"{str(error).splitlines()[-1].strip()}. {_GET}."
        ) from error
