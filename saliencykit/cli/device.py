"""The device that a model runs on, and the number of threads."""

import os

import torch

from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_black_box


def black_box_on_device(
    model: str, device: str, pixel_range: tuple[float, float] | None = None
) -> BlackBox:
    """A model by name, on a device.

    Args:
        model: `demo`, `timm:resnet18`, ...
        device: `auto` (the best available), `cpu`, `cuda`, `cuda:1`, `mps`.
        pixel_range: See `with_pixel_range`.

    Raises:
        RegistryError: The name is unknown.
        InputError: The device cannot be used, or the model chooses its own.
    """
    best = best_device()
    black_box = as_black_box(model)
    if isinstance(black_box, TorchBlackBox | Surrogate):
        try:
            black_box.model.to(torch.device(best if device == "auto" else device))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            available = ", ".join(dict.fromkeys(["cpu", best]))
            raise InputError(
                f"--device {device} cannot be used: {reason}. Available here: {available}."
            ) from error
    elif device not in ("auto", "cpu"):
        raise InputError(
            f"--device {device}: {model} chooses its own device; leave the option out."
        )
    return with_pixel_range(black_box, pixel_range)


def best_device() -> str:
    """The best available device: `cuda`, `mps` or `cpu`."""
    if torch.cuda.is_available():
        # a launcher that starts one process per GPU sets the rank on this machine
        rank = os.environ.get("LOCAL_RANK")
        return f"cuda:{rank}" if rank else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def use_idle_cores() -> None:
    """Use no more threads than there are idle cores.

    A thread that shares a busy core delays all others at every layer.
    """
    if not os.environ.get("OMP_NUM_THREADS") and hasattr(os, "getloadavg"):
        idle = (os.cpu_count() or 1) - round(os.getloadavg()[0])
        torch.set_num_threads(max(1, min(torch.get_num_threads(), idle)))
