"""Weights from a local file, into a model that was built for them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saliencykit.core.checks import first_line, name_of
from saliencykit.core.errors import InputError

# of DataParallel, torch.compile and training frameworks
_PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
)
_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net")


def model_with_weights(
    build: Callable[[int | None], nn.Module], path: str | Path, num_classes: int | None
) -> nn.Module:
    """A model with the weights of a file.

    Args:
        build: Makes the model with so many classes (None: its default); its weights are replaced.
        path: A state dict in safetensors, or in `.pt`/`.pth` (tensors only, nothing is unpickled).
        num_classes: None: as many as the file's last layer has.

    Raises:
        InputError: The file is missing, damaged or holds more than tensors, or does not fit the
            model.
    """
    weights = read_state(path)
    model = build(num_classes)
    own = model.state_dict()
    if num_classes is None and own:
        head = next(reversed(own))
        found = weights.get(head)
        if (
            found is not None
            and found.ndim
            and found.shape[0] != own[head].shape[0]
            and found.shape[1:] == own[head].shape[1:]
        ):
            model = build(int(found.shape[0]))
            own = model.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    extra = [key for key in weights if key not in own]
    shapes = [key for key in own if key in weights and weights[key].shape != own[key].shape]
    if missing or extra or shapes:
        found_and_wanted = [
            f"{key} is {tuple(weights[key].shape)} and must be {tuple(own[key].shape)}"
            for key in shapes
        ]
        trouble = [
            _some(missing, "missing"),
            _some(extra, "unknown"),
            _some(found_and_wanted, "of another shape"),
        ]
        raise InputError(
            f"{str(path)!r} does not fit {name_of(model)} with {len(own)} tensors: "
            f"{'; '.join(t for t in trouble if t)}. Name the model that the file was saved from; "
            "with another number of classes, add num_classes=."
        )
    model.load_state_dict(weights, strict=False)
    return model


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state dict file by name, without prefixes that wrappers left.

    Raises:
        InputError: The file is missing, damaged, of another kind, or holds more than tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {str(path)!r}.")
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise InputError(f"{str(path)!r}: a checkpoint is .safetensors, .pt, .pth or .bin.")
    held: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            held = load_file(path)
        else:
            with path.open("rb") as file:
                if file.read(2) not in (
                    b"PK",
                    b"\x80\x02",
                ):  # a zip archive, or torch's form before 1.6
                    raise ValueError("it does not begin like a file of torch.save")
            held = torch.load(path, map_location="cpu", weights_only=True)
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
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if (
        not isinstance(held, Mapping)
        or not held
        or not all(isinstance(value, Tensor) for value in held.values())
    ):
        raise InputError(
            f"{str(path)!r} holds {name_of(held)} and not a state dict; save model.state_dict()."
        )
    weights = dict(held)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _some(keys: list[str], what: str) -> str:
    return (
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        if keys
        else ""
    )
