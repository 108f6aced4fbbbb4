"""Universal: the evidence of any classifier, sharpened by one trained network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.perturbation.rise import Rise
from saliencykit.maskers.universal.class_evidence import (
    ClassEvidence,
    cells_of,
    compared_layers,
    on_grid,
    read_evidence,
    relative_strength,
    similarities_of,
)
from saliencykit.maskers.universal.sharpening_network import SharpeningNetwork
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.storage.tensor_file import fill
from saliencykit.storage.typed_json import Facts
from saliencykit.storage.weights_file import WeightsFile

_FILES: WeightsFile[Facts] = WeightsFile(
    "universal masker", 1, Facts, "the recipe universal_masker.py", "maskers of fit go to masker="
)
SHIPPED = Path(__file__).with_name("universal.safetensors")
_MIDDLE, _SMALL, _LARGE = 128, 48, 320  # pixels of the shorter side, of the longer side


def encoder_images(images: Images) -> Images:
    """Images as the network takes them: of three channels, small ones enlarged so that a mask has
    a position per pixel (below 48 px) or per two (below 128 px), very large ones reduced.

    Args:
        images: (B, C, H, W).
    """
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    least, most = min(images.shape[2:]), max(images.shape[2:])
    factor = 4.0 if least < _SMALL else 2.0 if least < _MIDDLE else min(1.0, _LARGE / most)
    if factor == 1:
        return images
    size = [max(1, round(side * factor)) for side in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=factor < 1)


def save_network(path: Path, network: SharpeningNetwork, facts: Mapping[str, Any]) -> None:
    """Write a network with the facts of its training."""
    _FILES.write(path, network.state_dict(), facts)
