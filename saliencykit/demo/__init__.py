"""The embedded default: a small classifier that this project trained itself, and the photo that it
explains.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from saliencykit.core.errors import SaliencyKitError

if TYPE_CHECKING:
    from PIL.Image import Image

    from saliencykit.black_boxes.torch_module import TorchBlackBox

HERE = Path(__file__).parent


def demo_black_box() -> "TorchBlackBox":
    """The embedded classifier: 200 classes of Tiny-ImageNet, the whole picture in 80 x 80 pixels,
    see `demo/card.md`.

    Raises:
        SaliencyKitError: The installation lacks the weights.

    Example:
        >>> demo_black_box().num_classes
        200
    """
    import json

    import torch
    from safetensors.torch import load_file

    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.demo.demo_network import DemoNet

    try:
        facts = json.loads((HERE / "classifier.json").read_text(encoding="utf-8"))
        weights = load_file(HERE / "classifier.safetensors")
    except OSError as error:
        raise SaliencyKitError(
            f"this installation lacks the embedded classifier: {error}; reinstall saliencykit."
        ) from error
    network = DemoNet(len(facts["classes"]))
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, strict=False
    )
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return TorchBlackBox(
        network,
        mean=facts["mean"],
        std=facts["std"],
        size=facts["size"],
        fit="pad",
        class_names=tuple(facts["classes"]),
    )


def demo_image() -> "Image":
    """Chelsea the cat, the photo that scikit-image ships (public domain, by Stefan van der Walt),
    as a PIL picture of 451 x 300.
    """
    from PIL import Image
    from skimage.data import chelsea

    return Image.fromarray(chelsea())
