"""Checkpoints of a training; a resumed one ends with the same weights as an uninterrupted one."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from safetensors.torch import save
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import write_bytes
from saliencykit.storage.tensor_file import misfits, read_tensors
from saliencykit.storage.typed_json import Count, Facts, Finite, one_line, parse_json, typed

_FORMAT = 1
_KEY = "saliencykit"
_MOMENT = re.compile(r"optimizer\.([0-9]{1,9})\.(\w+)")


class _Validation(Struct):
    score: float


class _Facts(Struct):
    """What a resumed training reads."""

    format: int
    done: Count
    area_weight: Finite
    smoothed_area: float
    validations: tuple[_Validation, ...]
    stopped: bool
    distilled: Facts | None = None
    schedule: Facts | None = None


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    *,
    best: dict[str, Tensor] | None = None,
    before: dict[str, Tensor] | None = None,
) -> None:
    """Write weights, optimizer state, facts, the best weights so far and those before
    distillation to one safetensors file, atomically.

    Raises:
        SaliencyKitError: The disk is full or the directory cannot be written to; an existing
            checkpoint stays intact.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if not isinstance(value, Tensor):
                value = torch.tensor(float(value), dtype=torch.float32, device="cpu")
            tensors[f"optimizer.{index}.{name}"] = value
    for part, weights in (("best", best), ("before", before)):
        tensors |= {f"{part}.{name}": tensor for name, tensor in (weights or {}).items()}
    header = {_KEY: json.dumps({"format": _FORMAT} | facts)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata=header))


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor] | None]]:
    """Load what `save_state` wrote; returns the facts, and by name (`best`, `before`) the weights.

    Raises:
        InputError: The file is damaged, of another format, or of another network.
    """
    try:
        tensors, texts = read_tensors(path)
        facts = typed(parse_json(texts.get(_KEY, "{}"), path), dict[str, Any], path)
        if facts.get("format", _FORMAT) == _FORMAT:
            typed(facts, _Facts, path)
    except InputError as error:
        raise InputError(f"the checkpoint {error} Delete it to start over.") from error
    if facts["format"] != _FORMAT:
        raise InputError(
            f"the checkpoint {path} has format {one_line(facts['format'])}; this version reads "
            f"{_FORMAT}."
        )
    weights, best, before = (
        {n.removeprefix(part): t for n, t in tensors.items() if n.startswith(part)}
        for part in ("network.", "best.", "before.")
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _MOMENT.fullmatch(name):
            state.setdefault(int(match[1]), {})[match[2]] = tensor
    own = network.state_dict()
    problems = misfits(own, weights) or _wrong(state, optimizer)
    for some in (best, before):
        problems = problems or (misfits(own, some) if some else "")
    if problems:
        raise InputError(
            f"the checkpoint {path} belongs to another network ({problems}); use another directory."
        )
    network.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return facts, {"best": best or None, "before": before or None}


def _wrong(state: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> str:
    """Which moments are not those of the optimizer's weights; empty if all are."""
    weights = [each for group in optimizer.param_groups for each in group["params"]]
    for index, moments in state.items():
        fits = index < len(weights) and moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        if (
            not fits
            or any(
                not moment.is_floating_point()
                or moment.shape != (weights[index].shape if name != "step" else ())
                for name, moment in moments.items()
            )
            or not float(moments["step"]) >= 0
        ):
            return f"moments of weight {index} do not fit"
    return ""
