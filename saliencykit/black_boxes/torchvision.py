"""Classifiers of torchvision, by name and as objects, with the transforms and class names of their
weights.
"""

import difflib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saliencykit.black_boxes.outputs import Outputs
from saliencykit.black_boxes.state_dict import model_with_weights
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.checks import first_line
from saliencykit.core.errors import InputError
from saliencykit.networks.module_state import restored_rng_state

# side branches of GoogLeNet and Inception, dropped or unused in eval mode
_TRAINING_ONLY = (
    "aux1.",
    "aux2.",
    "AuxLogits.",
)


def torchvision_black_box(
    name: str,
    weights: str | None = "DEFAULT",
    checkpoint: str | Path | None = None,
    num_classes: int | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    outputs: Outputs = "logits",
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
        mean: Per channel; beats that of the weights.
        std: Per channel, with `mean`.
        size: Side or (height, width) of the input in pixels; beats that of the weights.
        outputs: `logits` or `probabilities`.
        max_batch_size: The largest batch the model gets at once.

    Raises:
        InputError: The name or the weights are unknown, they cannot be downloaded, or the
            checkpoint does not fit.

    Example:
        >>> torchvision_black_box("squeezenet1_1", weights=None).size
        224
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(
            f"torchvision has no classifier called {name!r}.{hint} "
            "torchvision.models.list_models() lists them."
        )
    entries = {entry.name: entry for entry in _entries(name)}
    chosen = _default(name) if weights in (None, "DEFAULT") else entries.get(str(weights))
    if chosen is None:
        raise InputError(
            f"torchvision:{name} has no weights called {weights!r}; it has DEFAULT, "
            f"{', '.join(entries)}, or none."
        )
    download = checkpoint is None and weights is not None

    def build(classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if name in ("googlenet", "inception_v3") and not download:
            options |= {"init_weights": False, "aux_logits": False}
        try:
            return models.get_model(name, weights=chosen if download else None, **options)  # type: ignore[no-any-return]
        except Exception as error:
            reason = first_line(error)
            if not download:
                raise InputError(f"torchvision could not make {name!r}: {reason}.") from error
            raise InputError(
                f"the weights of torchvision:{name} are not in the cache and could not be "
                f"downloaded: {reason}. Without a network write "
                f"'torchvision:{name},checkpoint=my.safetensors', or "
                f"'torchvision:{name},weights=none' for random weights."
            ) from error

    with restored_rng_state():
        torch.default_generator.manual_seed(0)
        model = (
            build(num_classes)
            if checkpoint is None
            else model_with_weights(build, checkpoint, num_classes)
        )
    own = None if download or weights not in (None, "DEFAULT") else wrap_torchvision(model)
    if own is None:
        names = chosen.meta["categories"]
        own = replace(
            _box(model, [chosen]),
            class_names=tuple(names) if _last_width(model) == len(names) else None,
        )
    black_box = replace(own, outputs=outputs)
    given: dict[str, Any] = {
        "mean": mean,
        "std": std,
        "size": size,
        "max_batch_size": max_batch_size,
    }
    return replace(black_box, **{key: value for key, value in given.items() if value is not None})


def wrap_torchvision(model: nn.Module) -> TorchBlackBox | None:
    """A box around a torchvision classifier object, or None if it is not one.

    The entry of its family's weights that has as many parameters says how pictures are prepared and
    what the classes are called; among several, the default one. With a new head the entries that
    agree in the rest of the network decide, then those of the family; what they do not agree on is
    left open, and classes have no names.

    Args:
        model: Any module. Subclasses, and modules that merely contain torchvision parts, are not
            torchvision models: they may normalise by themselves.
    """
    if (
        not type(model).__module__.startswith("torchvision.models.")
        or "torchvision" not in sys.modules
    ):
        return None
    builders = [name for name, made in _builders().items() if made is type(model)]
    if not builders:
        return None
    entries = [(name, entry) for name in builders for entry in _entries(name)]
    count = _parameters(model)
    same = [(name, entry) for name, entry in entries if entry.meta["num_params"] == count]
    if same:
        default = [entry for name, entry in same if entry == _default(name)]
        entry = (default or [entry for _, entry in same])[0]
        return replace(_box(model, [entry]), class_names=tuple(entry.meta["categories"]))
    body = count - _head(model)
    features = _head_inputs(model)
    close_to_rounding = [
        entry
        for _, entry in entries
        if features
        and entry.meta["num_params"] - (features + 1) * len(entry.meta["categories"]) == body
    ]
    defaults = [
        entry for entry in close_to_rounding if any(entry == _default(name) for name in builders)
    ]
    return _box(model, defaults or close_to_rounding or [entry for _, entry in entries])


def _box(model: nn.Module, entries: list[Any]) -> TorchBlackBox:
    """A box with what all the entries' transforms agree on."""
    plans = [entry.transforms() for entry in entries]
    statistics = {(tuple(plan.mean), tuple(plan.std)) for plan in plans}
    mean, std = statistics.pop() if len(statistics) == 1 else (None, None)
    sizes = {(plan.crop_size[0], plan.resize_size[0]) for plan in plans}
    crops = {crop for crop, _ in sizes}
    filters = {plan.interpolation.value for plan in plans}
    return TorchBlackBox(
        model,
        mean=mean,
        std=std,
        size=crops.pop() if len(crops) == 1 else None,
        crop_share=min(crop / resize for crop, resize in sizes) if len(sizes) == 1 else 0.875,
        interpolation=filters.pop() if len(filters) == 1 else "bilinear",
    )


def _builders() -> dict[str, type]:
    """Every classifier's name and the class that it makes."""
    from torchvision import models

    return {
        name: inspect.signature(models.get_model_builder(name)).return_annotation
        for name in models.list_models(module=models)
    }


def _entries(name: str) -> list[Any]:
    """The weights of a model that classify; others give features only and have no categories."""
    from torchvision import models

    return [entry for entry in models.get_model_weights(name) if entry.meta.get("categories")]


def _default(name: str) -> Any:
    from torchvision import models

    return models.get_model_weights(name).DEFAULT


def _parameters(model: nn.Module) -> int:
    named = list(model.named_parameters())
    count = sum(p.numel() for _, p in named)
    side = sum(p.numel() for key, p in named if key.startswith(_TRAINING_ONLY))
    # Inception's published count includes its branch
    return count if type(model).__name__ != "GoogLeNet" else count - side


def _last(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The layer that makes the class scores: the last one with weights."""
    layers = [
        m
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear | nn.Conv2d) and not n.startswith(_TRAINING_ONLY)
    ]
    return layers[-1] if layers else None


def _last_width(model: nn.Module) -> int | None:
    last = _last(model)
    return None if last is None else int(last.weight.shape[0])


def _head(model: nn.Module) -> int:
    last = _last(model)
    return 0 if last is None else sum(p.numel() for p in last.parameters())


def _head_inputs(model: nn.Module) -> int:
    last = _last(model)
    return 0 if last is None else last.weight[0].numel()
