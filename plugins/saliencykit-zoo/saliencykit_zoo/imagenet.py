"""The five ImageNet classifiers whose maskers are in the zoo; for weights see `imagenet.md`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from saliencykit import InputError, TorchBlackBox

_GET = "See saliencykit_zoo/imagenet.md for where these weights come from"


def mobilenetv2(checkpoint: str | Path, *, crop_pct: float = 0.875) -> TorchBlackBox:
    """MobileNetV2 1.0 at 224 px as TensorFlow trained it:
    `zoo/mobilenetv2:checkpoint=mobilenet_v2_imagenet.safetensors`.

    Args:
        checkpoint: The weights as safetensors, under the names of torchvision.
        crop_pct: Fraction of the resized side that the center crop keeps, in (0, 1].

    Raises:
        InputError: The file does not exist, or belongs to another network.

    Example:
        >>> mobilenetv2("no-such-file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no file 'no-such-file.safetensors'. See ...
    """
    import torchvision
    from torch import nn

    net = torchvision.models.mobilenet_v2()
    _fill(net, Path(checkpoint))
    for module in list(net.modules()):  # TensorFlow pads stride-2 convolutions right and below only
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(module, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), child))
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=224, crop_pct=crop_pct)


def squeezenet1_0(checkpoint: str | Path, *, crop_pct: float = 0.875) -> TorchBlackBox:
    """SqueezeNet 1.0 at 224 px: `zoo/squeezenet1-0:checkpoint=squeezenet1_0_imagenet.safetensors`.

    Args:
        checkpoint: The weights as safetensors, under the names of torchvision.
        crop_pct: Fraction of the resized side that the center crop keeps, in (0, 1].

    Raises:
        InputError: The file does not exist, or belongs to another network.

    Example:
        >>> squeezenet1_0("no-such-file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no file 'no-such-file.safetensors'. See ...
    """
    import torchvision

    net = torchvision.models.squeezenet1_0()
    _fill(net, Path(checkpoint))
    return TorchBlackBox(
        net.eval(),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        size=224,
        crop_pct=crop_pct,
    )


def mobilenetv1_100(checkpoint: str | Path, *, crop_pct: float = 0.875) -> TorchBlackBox:
    """MobileNetV1 1.0 at 224 px:
    `zoo/mobilenetv1-100:checkpoint=mobilenet_v1_100_imagenet.safetensors`.

    Args:
        checkpoint: The weights as safetensors, under the names of timm.
        crop_pct: Fraction of the resized side that the center crop keeps, in (0, 1].

    Raises:
        InputError: The file does not exist, or belongs to another network.

    Example:
        >>> mobilenetv1_100("no-such-file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no file 'no-such-file.safetensors'. See ...
    """
    import timm

    net = timm.create_model("mobilenetv1_100", pad_type="same")
    _fill(net, Path(checkpoint))
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=224, crop_pct=crop_pct)


def mobilenetv1_075(checkpoint: str | Path, *, crop_pct: float = 0.875) -> TorchBlackBox:
    """MobileNetV1 0.75 at 192 px:
    `zoo/mobilenetv1-075:checkpoint=mobilenet_v1_075_imagenet.safetensors`.

    Args:
        checkpoint: The weights as safetensors, under the names of timm.
        crop_pct: Fraction of the resized side that the center crop keeps, in (0, 1].

    Raises:
        InputError: The file does not exist, or belongs to another network.

    Example:
        >>> mobilenetv1_075("no-such-file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no file 'no-such-file.safetensors'. See ...
    """
    from timm.models import efficientnet

    # timm has names for the widths 1.0 and 1.25 only
    make: Callable[..., nn.Module] = efficientnet._gen_mobilenet_v1
    net = make("mobilenetv1_100", 0.75, pad_type="same")
    _fill(net, Path(checkpoint))
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=192, crop_pct=crop_pct)


def efficientnet_lite0(checkpoint: str | Path, *, crop_pct: float = 0.875) -> TorchBlackBox:
    """EfficientNet-Lite0 at 224 px:
    `zoo/efficientnet-lite0:checkpoint=efficientnet_lite0_imagenet.safetensors`.

    Args:
        checkpoint: The weights as safetensors, under the names of timm.
        crop_pct: Fraction of the resized side that the center crop keeps, in (0, 1].

    Raises:
        InputError: The file does not exist, or belongs to another network.

    Example:
        >>> efficientnet_lite0("no-such-file.safetensors")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no file 'no-such-file.safetensors'. See ...
    """
    import timm

    net = timm.create_model("tf_efficientnet_lite0")
    _fill(net, Path(checkpoint))
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=224, crop_pct=crop_pct)


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
