"""The weights and the image that come with the package."""

import json

import torch
from PIL import Image
from safetensors.torch import load_file
from skimage.data import chelsea

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import SaliencyKitError
from saliencykit.demo.demo_network import DemoNet
from saliencykit.demo.directory import DEMO_DIR


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
    """Chelsea the cat, the photo that comes with scikit-image (public domain, by Stefan van der
    Walt), 451 x 300.
    """
    return Image.fromarray(chelsea())
