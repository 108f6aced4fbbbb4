"""Weights from a local file, into a model that was built for them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.visible_text import first_line
from saliencykit.networks.module_state import restored_rng_state
from saliencykit.storage.locations import local_copy
from saliencykit.storage.tensor_file import misfits

_PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile, trainers
_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net")
_PICKLES = (".pt", ".pth", ".bin")


def build_seeded(
    build: Callable[[int | None], nn.Module], checkpoint: str | Path | None, num_classes: int | None
) -> nn.Module:
    """A model with its own weights, or with those of a checkpoint; random weights are always the
    same, and torch's random state is restored.

    Args:
        build: Makes the model with this number of classes (None: its default).
        checkpoint: See `build_with_weights`.
        num_classes: None: as in the checkpoint, else the default.
    """
    with restored_rng_state():
        torch.default_generator.manual_seed(0)
        if checkpoint is None:
            return build(num_classes)
        return build_with_weights(build, checkpoint, num_classes)


def build_with_weights(
    build: Callable[[int | None], nn.Module], path: str | Path, num_classes: int | None
) -> nn.Module:
    """A model with the weights of a file.

    Args:
        build: Makes the model with this number of classes (None: its default); its weights are
            replaced.
        path: A state dict in safetensors, or in `.pt`/`.pth` (tensors only, nothing is unpickled).
        num_classes: None: as many as the file's last layer has.

    Raises:
        InputError: The file is missing, damaged or holds more than tensors, or does not fit the
            model.
    """
    weights = read_state_dict(path)
    model = build(num_classes)
    own = model.state_dict()
    head = next(reversed(own), "")
    if num_classes is None and head in weights and weights[head].ndim:
        rows, inputs = weights[head].shape[:1], weights[head].shape[1:]
        if rows != own[head].shape[:1] and inputs == own[head].shape[1:]:
            model = build(int(rows[0]))
            own = model.state_dict()
    if problems := misfits(own, weights, optional="num_batches_tracked"):
        raise InputError(
            f"{str(path)!r} does not fit {name_of(model)} with {len(own)} tensors: {problems}. "
            "Name the model that the file was saved from; with another number of classes, add "
            "num_classes=."
        )
    model.load_state_dict(weights, strict=False)
    return model


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state dict file by name, without the prefixes that wrappers add.

    Raises:
        InputError: The file is missing, damaged, of another kind, or holds more than tensors.
    """
    path = Path(local_copy(path)).expanduser()
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {str(path)!r}.")
    if path.suffix not in (".safetensors", *_PICKLES):
        raise InputError(f"{str(path)!r}: a checkpoint is .safetensors, .pt, .pth or .bin.")
    weights: Any
    try:
        weights = _unpickled(path) if path.suffix in _PICKLES else load_file(path)
    except Exception as error:
        if "weights_only" in str(error).lower() or "unsupported global" in str(error).lower():
            raise InputError(
                f"{str(path)!r} holds more than tensors, and is not unpickled for safety; save it "
                "again with torch.save(model.state_dict(), path) or "
                "safetensors.torch.save_file(model.state_dict(), path)."
            ) from error
        raise InputError(
            f"{str(path)!r} cannot be read as a checkpoint, it is damaged or of another kind: "
            f"{first_line(error)}."
        ) from error
    for key in _WRAPPERS:
        if isinstance(weights, Mapping) and isinstance(weights.get(key), Mapping):
            weights = weights[key]
    mapping = isinstance(weights, Mapping) and len(weights) > 0
    if not mapping or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(
            f"{str(path)!r} holds {name_of(weights)} and not a state dict; save model.state_dict()."
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return dict(weights)


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        # a zip archive, or the format of torch before 1.6
        if file.read(2) not in (b"PK", b"\x80\x02"):
            raise ValueError("it does not begin like a file of torch.save")
    return torch.load(path, map_location="cpu", weights_only=True)
