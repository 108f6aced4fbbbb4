"""This machine: the device that a model computes on, and the cores that are idle."""

import os

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError


def black_box_on_device(model: str, device: str) -> BlackBox:
    """A model by name, on a device.

    Args:
        model: `demo`, `timm:resnet18`, ...
        device: `auto` (the best there is), `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        RegistryError: The name is unknown.
        InputError: The device cannot be used, or the model decides by itself.
    """
    import torch

    from saliencykit.black_boxes.surrogate import Surrogate
    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.registry.coerce import as_black_box

    best = best_device()
    black_box = as_black_box(model)
    if isinstance(black_box, TorchBlackBox | Surrogate):
        try:
            black_box.model.to(torch.device(best if device == "auto" else device))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            there = ", ".join(dict.fromkeys(["cpu", best]))
            raise InputError(
                f"--device {device} cannot be used: {reason}. This machine has: {there}."
            ) from error
    elif device not in ("auto", "cpu"):
        raise InputError(
            f"--device {device}: {model} decides by itself where it computes; leave the option "
            "away."
        )
    return black_box


def best_device() -> str:
    """The best device that there is: `cuda`, `mps` or `cpu`."""
    import torch

    # among the processes of this machine that a launcher started
    mine = os.environ.get("LOCAL_RANK")
    cuda = f"cuda:{mine}" if mine else "cuda"
    return (
        cuda if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    )


def use_idle_cores() -> None:
    """No more threads than idle cores: a thread that shares a busy core keeps all others waiting at
    every layer.
    """
    import torch

    if not os.environ.get("OMP_NUM_THREADS") and hasattr(os, "getloadavg"):
        idle = (os.cpu_count() or 1) - round(os.getloadavg()[0])
        torch.set_num_threads(max(1, min(torch.get_num_threads(), idle)))
