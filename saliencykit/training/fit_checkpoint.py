"""Checkpoints of a training; a resumed one ends with the same weights as an uninterrupted one."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import write_beside

_FORMAT = 1


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    *,
    best: dict[str, Tensor] | None = None,
) -> None:
    """Write weights, optimizer state, facts and the best weights so far to one safetensors file,
    atomically.

    Raises:
        SaliencyKitError: The disk is full or the directory cannot be written to; an existing
            checkpoint stays intact.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = (
                value if isinstance(value, Tensor) else torch.tensor(float(value))
            )
    tensors |= {f"best.{name}": tensor for name, tensor in (best or {}).items()}
    header = {"saliencykit": json.dumps({"format": _FORMAT} | facts)}
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata=header,
    )
    write_beside(path, lambda beside: beside.write_bytes(data))


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Load what `save_state` wrote; returns the facts and the best weights.

    Raises:
        InputError: The file is damaged, of another format, or of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["saliencykit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise InputError(
            f"the checkpoint {path} is damaged ({error}); delete it to start over."
        ) from error
    if facts.get("format") != _FORMAT:
        raise InputError(
            f"the checkpoint {path} has format {facts.get('format')}; this version reads {_FORMAT}."
        )
    try:
        network.load_state_dict(
            {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"the checkpoint {path} belongs to another network ({error}); use another directory."
        ) from error
    best = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
    return dict(facts), best or None
