"""A surrogate as one file: safetensors with a JSON header."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saliencykit.black_boxes.infer_preprocessing import Preprocessing
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.surrogate_network import build_network
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.storage.weights_file import WeightsFile

_FILES = WeightsFile(
    "surrogate",
    1,
    "surrogate",
    "a classifier's weights are named with their model, timm:NAME,checkpoint=FILE, and a trained "
    "masker goes to masker=",
)


def rounded(network: nn.Module) -> None:
    """Round the weights to what a file holds of them, half precision; scalars and vectors stay as
    they are.

    Args:
        network: Changed in place.
    """
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half())


def save_surrogate(surrogate: Surrogate, path: Path) -> Path:
    """Write weights and header; a file that is there is replaced at once or not at all.

    Args:
        surrogate: What is kept.
        path: The file, `.safetensors`.

    Returns:
        The path.

    Raises:
        InputError: The name does not end in .safetensors.
        SaliencyKitError: The file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"a surrogate's file ends in .safetensors; got {str(path)!r}.")
    black_box = surrogate.black_box
    header = {
        "network": dict(surrogate.architecture),
        "mean": black_box.mean,
        "std": black_box.std,
        "num_classes": surrogate.num_classes,
        "input_size": surrogate.input_size,
        "class_names": None if surrogate.class_names is None else list(surrogate.class_names),
        "baseline_color": surrogate.baseline_color,
        "preprocessing": None
        if surrogate.preprocessing is None
        else surrogate.preprocessing.as_facts(),
        "facts": dict(surrogate.facts),
    }
    _FILES.write(path, surrogate.source_module.state_dict(), header)
    return path


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a surrogate's file; no weights are read.

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, it is damaged, it holds no surrogate, or its format is
            not known.
    """
    return _FILES.header(path)


def load_surrogate(
    path: Path, black_box: BlackBox | None = None, *, network: nn.Module | None = None
) -> Surrogate:
    """Read a surrogate.

    Args:
        path: What `save` wrote.
        black_box: What it stands for; only needed where nobody else knows how it prepares pictures.
        network: For a surrogate that was a module of your own: one of the same shapes; it is
            copied.

    Raises:
        InputError: The file is not a surrogate that this version reads, or the network does not
            fit.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    module = build_network(header["network"]) if network is None else copy.deepcopy(network)
    try:
        weights = {n: t.float() if t.is_floating_point() else t for n, t in load_file(path).items()}
        module.load_state_dict(weights)
        size = (int(header["input_size"][0]), int(header["input_size"][1]))
        prepared = header["preprocessing"]
        preprocessing = (
            None
            if prepared is None
            else Preprocessing(**(prepared | {"size": size, "fill": _floats(prepared["fill"])}))
        )
        names = None if header["class_names"] is None else tuple(header["class_names"])
        inner = TorchBlackBox(
            module.eval().requires_grad_(False),
            mean=_floats(header["mean"]),
            std=_floats(header["std"]),
            size=size,
        )
        made = Surrogate(
            inner,
            int(header["num_classes"]),
            size,
            class_names=names,
            baseline_color=_floats(header["baseline_color"]),
            preprocessing=preprocessing,
            architecture=header["network"],
            facts=header["metadata"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if network is not None and isinstance(error, RuntimeError):
            raise InputError(
                f"the weights in {str(path)!r} do not fit the {name_of(network)} that was given: "
                f"{error}"
            ) from error
        raise InputError(
            f"the surrogate in {str(path)!r} is damaged: {type(error).__name__}: {error}."
        ) from error
    return (
        made
        if black_box is None or preprocessing is not None
        else replace(made, prepared_by=black_box)
    )


def _floats(numbers: Any) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(float(v) for v in numbers)
