"""The weights and the image that come with the package."""

import json
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from skimage.data import data_dir

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import SaliencyKitError
from saliencykit.demo.demo_network import DemoNet
from saliencykit.demo.directory import DEMO_DIR

_CROP = (100, 20, 580, 400)  # x0, y0, x1, y1 in pixels


def demo_black_box() -> TorchBlackBox:
    """The embedded classifier: 200 classes of Tiny-ImageNet, the whole image in 80 x 80 pixels, see
    `demo/card.md`.

    Raises:
        SaliencyKitError: The installation lacks the weights.

    Example:
        >>> demo_black_box().num_classes
        200
    """
    try:
        card = json.loads((DEMO_DIR / "classifier.json").read_text(encoding="utf-8"))
        weights = load_file(DEMO_DIR / "classifier.safetensors")
    except OSError as error:
        raise SaliencyKitError(
            f"this installation lacks the embedded classifier: {error}; reinstall saliencykit."
        ) from error
    network = DemoNet(len(card["classes"]))
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, strict=False
    )
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return TorchBlackBox(
        network,
        mean=card["mean"],
        std=card["std"],
        size=card["size"],
        fit="pad",
        class_names=tuple(card["classes"]),
    )


def demo_image() -> Image.Image:
    """An espresso, the photo `coffee` of scikit-image without its margins, 480 x 380.

    The embedded classifier is sure of it, and its masker's region alone decides. The photo is by
    Rachel Michetti (CC0).
    """
    return Image.open(Path(data_dir) / "coffee.png").convert("RGB").crop(_CROP)
