"""Tensors in a safetensors file, read so that a damaged file is one line."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from saliencykit.core.checks import describe
from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.core.visible_text import first_line


def read_tensors(
    path: Path, *, weights: bool = True, key: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and the texts in its header.

    Args:
        path: The file.
        weights: False: the texts only.
        key: Read the tensor of this name only. None: all of them.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    refuse_special_file(path)
    try:
        path.open("rb").close()  # safetensors reports a file without permission as missing
        with safe_open(path, framework="pt") as file:
            names = [key] if key is not None else list(file.keys()) if weights else []
            tensors = {name: file.get_tensor(name) for name in names}
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # safetensors has an error of its own for damage
        raise InputError(
            f"{str(path)!r} is not a valid safetensors file: {first_line(error)}."
        ) from error


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that no tensor holds NaN or infinite values, or numbers that are not real.

    Raises:
        InputError: One does.
    """
    for name, tensor in tensors.items():
        if tensor.is_complex() or not bool(torch.isfinite(tensor.float()).all()):
            raise InputError(
                f"{str(path)!r} is damaged: {name} is {describe(tensor)}, expected finite numbers."
            )


def misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], optional: str = "") -> str:
    """Which weights do not fit a module, in words; empty if all do.

    Args:
        own: The module's state dict.
        weights: Of a file.
        optional: The end or the beginning of names that may be missing.
    """
    problems = {
        "missing": [
            name
            for name in own
            if name not in weights
            and not (optional and (name.startswith(optional) or name.endswith(optional)))
        ],
        "unknown": [name for name in weights if name not in own],
        "of another kind": [
            f"{name} is {describe(weights[name])} and must be {describe(value)}"
            for name, value in own.items()
            if name in weights
            and (
                weights[name].shape != value.shape
                or weights[name].is_floating_point() != value.is_floating_point()
            )
        ],
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in problems.items()
        if names
    )


def fill(module: nn.Module, weights: Mapping[str, Tensor], where: str, optional: str = "") -> None:
    """Load the weights of a file into a module; one on the meta device takes the tensors as they
    are.

    Args:
        module: Built from a header, which may demand more memory than there is; so build it on
            the meta device.
        weights: Of the file.
        where: The file, for the error.
        optional: See `misfits`.

    Raises:
        InputError: They do not fit.
    """
    own = module.state_dict()
    if problems := misfits(own, weights, optional):
        raise InputError(f"{where} is damaged: its weights do not fit its header: {problems}.")
    on_meta = any(value.is_meta for value in own.values())
    module.load_state_dict(weights, strict=False, assign=on_meta)
