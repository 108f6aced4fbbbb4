"""Classifiers of torchvision, by name and as objects, with the transforms and class names of their
weights.
"""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from saliencykit.black_boxes.class_names import read_class_names
from saliencykit.black_boxes.named_models import given_options, making, near_names
from saliencykit.black_boxes.state_dict import build_seeded
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.output import Output

# side branches of GoogLeNet and Inception, dropped or unused in eval mode
_TRAINING_ONLY = ("aux1.", "aux2.", "AuxLogits.")


def torchvision_black_box(
    name: str,
    weights: str | None = "DEFAULT",
    checkpoint: str | Path | None = None,
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
    """A classifier of torchvision by name: `torchvision:mobilenet_v2`,
    `torchvision:mobilenet_v2,checkpoint=my.safetensors`.

    Args:
        name: As `torchvision.models.get_model` takes it: `resnet50`.
        weights: An entry of the model's weights (`DEFAULT`, `IMAGENET1K_V1`), downloaded or from
            the cache; None (`none` in a text): random weights, always the same ones. With a
            checkpoint: whose transforms are used.
        checkpoint: A local state dict, `.safetensors` or `.pt` (tensors only), instead of the
            downloaded weights.
        num_classes: K. None: as in the checkpoint, else the model's own.
        mean: Per channel; overrides that of the weights.
        std: Per channel, with `mean`.
        size: Side or (height, width) of the input in pixels; overrides that of the weights.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`.
        probabilities: The model returns probabilities instead of logits.
        class_names: One name per class; a file with one name per line (`.json`: a list); or the
            folder of the training images, with one subfolder per class.
        max_batch_size: The largest batch that the model gets.

    Raises:
        InputError: The name or the weights are unknown, they cannot be downloaded, or the
            checkpoint does not fit.

    Example:
        >>> torchvision_black_box("squeezenet1_1", weights=None).size
        224
    """
    models = _models()
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"torchvision has no classifier {name!r}.{near_names(name, known)} "
            "torchvision.models.list_models() lists them."
        )
    entries = {entry.name: entry for entry in _entries(name)}
    unspecified = weights in (None, "DEFAULT")
    chosen = _default(name) if unspecified else entries.get(str(weights))
    if chosen is None:
        raise InputError(
            f"torchvision:{name} has no weights {weights!r}; it has DEFAULT, {', '.join(entries)}, "
            "or none."
        )
    download = checkpoint is None and weights is not None

    def build(classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if name in ("googlenet", "inception_v3") and not download:
            options |= {"init_weights": False, "aux_logits": False}
        offline = (
            f"'torchvision:{name},checkpoint=my.safetensors', or 'torchvision:{name},weights=none' "
            "for random weights"
        )
        with making(f"torchvision:{name}", download, offline):
            return models.get_model(name, weights=chosen if download else None, **options)  # type: ignore[no-any-return]

    model = build_seeded(build, checkpoint, num_classes)
    black_box = wrap_torchvision(model) if unspecified and not download else None
    if black_box is None:
        names, head = tuple(chosen.meta["categories"]), _last_layer(model)
        fits = head is not None and len(head.weight) == len(names)
        black_box = replace(_black_box(model, [chosen]), class_names=names if fits else None)
    options = given_options(mean=mean, std=std, size=size, max_batch_size=max_batch_size)
    options |= given_options(class_names=read_class_names(class_names))
    if download or mean is not None:
        options["assumed"] = ""
    return replace(black_box, output=output, probabilities=probabilities, **options)


def wrap_torchvision(model: nn.Module) -> TorchBlackBox | None:
    """A black box around a torchvision classifier, or None if it is not one.

    The entry of its family's weights with the same number of parameters says how images are
    prepared and what the classes are called; among several, the default one. With a new head the
    entries that agree in all other layers decide, then those of the family; what they do not agree
    on is left open, and classes have no names.

    Args:
        model: Any module. Subclasses, and modules that merely contain torchvision parts, are not
            torchvision models: they may normalize by themselves.
    """
    if not type(model).__module__.startswith("torchvision.models."):
        return None
    names = [name for name, built in _builders().items() if built is type(model)]
    if not names:
        return None
    defaults = [_default(name) for name in names]
    entries = [entry for name in names for entry in _entries(name)]
    count = _parameter_count(model)
    same = [entry for entry in entries if entry.meta["num_params"] == count]
    if same:
        entry = next((entry for entry in same if entry in defaults), same[0])
        return replace(_black_box(model, [entry]), class_names=tuple(entry.meta["categories"]))
    head = _last_layer(model)
    same_body = []
    if head is not None:
        body = count - sum(p.numel() for p in head.parameters())
        features = head.weight[0].numel()
        same_body = [
            entry
            for entry in entries
            if entry.meta["num_params"] - (features + 1) * len(entry.meta["categories"]) == body
        ]
    best = [entry for entry in same_body if entry in defaults]
    black_box = _black_box(model, best or same_body or entries)
    black_box._state["guessed"] = black_box.mean is not None
    return black_box


def _black_box(model: nn.Module, entries: list[Any]) -> TorchBlackBox:
    """A black box with what the transforms of all entries agree on."""
    transforms = [entry.transforms() for entry in entries]
    statistics = {(tuple(t.mean), tuple(t.std)) for t in transforms}
    mean, std = statistics.pop() if len(statistics) == 1 else (None, None)
    sizes = {(t.crop_size[0], t.resize_size[0]) for t in transforms}
    crops = {crop for crop, _ in sizes}
    filters = {t.interpolation.value for t in transforms}
    same = len(entries) == 1
    return TorchBlackBox(
        model,
        mean=mean,
        std=std,
        size=crops.pop() if len(crops) == 1 else None,
        crop_pct=min(crop / resize for crop, resize in sizes) if len(sizes) == 1 else 0.875,
        interpolation=filters.pop() if len(filters) == 1 else "bilinear",
        assumed=str(entries[0]) if same else f"those of {name_of(model)}'s published weights",
    )


def _models() -> Any:
    """`torchvision.models`, imported when it is first used: it takes two seconds."""
    from torchvision import models

    return models


def _builders() -> dict[str, type]:
    """Every classifier's name, and the class that it builds."""
    return {
        name: inspect.signature(_models().get_model_builder(name)).return_annotation
        for name in _models().list_models(module=_models())
    }


def _entries(name: str) -> list[Any]:
    """The weights of a model that classify; others give features only and have no categories."""
    return [entry for entry in _models().get_model_weights(name) if entry.meta.get("categories")]


def _default(name: str) -> Any:
    return _models().get_model_weights(name).DEFAULT


def _parameter_count(model: nn.Module) -> int:
    """As torchvision publishes it: with Inception's side branch, and without GoogLeNet's."""
    without = _TRAINING_ONLY if type(model).__name__ == "GoogLeNet" else ()
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if not name.startswith(without))


def _last_layer(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The layer that computes the class scores: the last one with weights."""
    last = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not name.startswith(_TRAINING_ONLY):
            last = module
    return last
