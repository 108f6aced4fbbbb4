"""Models of timm, by name and as objects, with the preprocessing of their own configuration."""

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from saliencykit.black_boxes.class_names import read_class_names
from saliencykit.black_boxes.named_models import given_options, making, near_names
from saliencykit.black_boxes.preprocessing import Fit
from saliencykit.black_boxes.state_dict import build_seeded
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required
from saliencykit.core.output import Output
from saliencykit.storage.hub_access import no_retries_when_offline

_FITS: dict[str, Fit] = {"center": "crop", "squash": "squash", "border": "pad"}
_REMOTE = ("hf-hub:", "hf_hub:", "local-dir:")  # names that timm looks up outside its own list


def timm_black_box(
    name: str,
    checkpoint: str | Path | None = None,
    pretrained: bool | None = None,
    num_classes: int | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    output: Output = "softmax",
    probabilities: bool = False,
    class_names: str | Path | Sequence[str] | None = None,
    max_batch_size: int | None = None,
) -> TorchBlackBox:
    """A classifier of timm by name: `timm:resnet18`, `timm:resnet18,checkpoint=my.safetensors`.

    Args:
        name: As `timm.create_model` takes it, with or without a tag: `resnet18`,
            `resnet18.a1_in1k`.
        checkpoint: A local state dict, `.safetensors` or `.pt` (tensors only).
        pretrained: Download timm's weights, or take them from its cache. None: yes, unless there is
            a checkpoint. False: random weights, always the same ones.
        num_classes: K. None: as in the checkpoint, else the model's own.
        mean: Per channel; overrides the model's configuration.
        std: Per channel, with `mean`.
        size: Side or (height, width) of the input in pixels; overrides the model's configuration.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`.
        probabilities: The model returns probabilities instead of logits.
        class_names: One name per class; a file with one name per line (`.json`: a list); or the
            folder of the training images, with one subfolder per class.
        max_batch_size: The largest batch that the model gets.

    Raises:
        InputError: timm is not installed, the name is unknown, the weights cannot be downloaded, or
            the checkpoint or the class names do not fit.

    Example:
        >>> timm_black_box("test_resnet", pretrained=False).size
        (160, 160)
    """
    timm = required("timm", f"timm:{name}", "timm")
    if not name.startswith(_REMOTE) and not timm.is_model(name):
        hint = near_names(name.split(".")[0], timm.list_models())
        raise InputError(
            f"timm has no model {name!r}.{hint} timm.list_models('*resnet*') lists them."
        )
    if checkpoint is not None and pretrained:
        raise InputError(f"timm:{name} takes a checkpoint or pretrained=true, not both.")
    download = checkpoint is None and pretrained is not False

    def build(classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        offline = (
            f"'timm:{name},checkpoint=my.safetensors', or 'timm:{name},pretrained=false' for "
            "random weights"
        )
        if download and not name.startswith(_REMOTE) and not timm.is_model_pretrained(name):
            raise InputError(f"timm has no pretrained weights for {name!r}; write {offline}.")
        once = no_retries_when_offline() if download else nullcontext()
        with making(f"timm:{name}", download, offline), once:
            model: nn.Module = timm.create_model(name, pretrained=download, **options)
            return model

    black_box = wrap_timm(build_seeded(build, checkpoint, num_classes))
    if black_box is None:
        raise InputError(
            f"timm:{name} is not an image classifier with pixel statistics; give "
            "TorchBlackBox(model, mean=..., std=...)."
        )
    options = given_options(mean=mean, std=std, size=size, max_batch_size=max_batch_size)
    options |= given_options(class_names=read_class_names(class_names))
    return replace(black_box, output=output, probabilities=probabilities, **options)


def wrap_timm(model: nn.Module) -> TorchBlackBox | None:
    """A black box around a timm model, as its `pretrained_cfg` says, or None if it is not one.

    Args:
        model: Any module. Modules that merely contain a timm model are not timm models: they may
            normalize by themselves.
    """
    if "timm" not in sys.modules or not hasattr(model, "pretrained_cfg"):
        return None
    from timm.data.config import resolve_model_data_config

    try:
        config: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
        channels, height, width = config["input_size"]
        mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
        interpolation, fit = config["interpolation"], _FITS[config["crop_mode"]]
        crop_pct = float(config["crop_pct"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # something else with an attribute pretrained_cfg
    layers = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(layers, None)
    channels = first.in_channels if first else channels
    if channels == 1 and len(mean) == 3:  # timm sums the weights of the first layer over RGB
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    known = len(mean) == len(std) == channels
    # a model built with img_size= keeps the size of its weights in the configuration
    built_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if isinstance(built_size, tuple | list) and len(built_size) == 2:
        height, width = (int(side) for side in built_size)
    return TorchBlackBox(
        model,
        mean=mean if known else None,
        std=std if known else None,
        size=(height, width),
        fit=fit,
        crop_pct=crop_pct,
        interpolation=interpolation,
        class_names=_class_names(model),
    )


def _class_names(model: nn.Module) -> tuple[str, ...] | None:
    """ImageNet's, if the model has as many classes as its weights were trained for and timm knows
    their names.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    config: Any = model.pretrained_cfg
    as_dict = isinstance(config, dict)
    trained = config.get("num_classes") if as_dict else getattr(config, "num_classes", None)
    count = getattr(model, "num_classes", None)
    subset = infer_imagenet_subset(model) if count == trained else None
    if subset is None:
        return None
    try:
        names = [str(name) for name in ImageNetInfo(subset).label_descriptions()]
    except Exception:  # a file that this version of timm does not ship
        return None
    short = [name.split(",")[0] for name in names]
    uses = Counter(short)
    pairs = zip(short, names, strict=True)
    unique = tuple(brief if uses[brief] == 1 else full for brief, full in pairs)
    return unique if len(unique) == count else None
