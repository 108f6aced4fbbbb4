"""The classifier of the paper's CIFAR-10 experiment."""

import json
from pathlib import Path

import torch

from saliencykit import SaliencyKitError, TorchBlackBox

HERE = Path(__file__).parent


def cifar10_fitnet() -> TorchBlackBox:
    """A FitNet-4 with ReLUs, trained by this project on a JPEG copy of CIFAR-10: ten classes, 32 x
    32 pixels.

    It was trained on random-resized crops, so it also knows parts of images enlarged to its input
    size. Good for quick experiments, at a few milliseconds per image; it has ten classes, and
    predicts one of them for any photo. Its accuracy is in `cifar10_fitnet.md`.

    Returns:
        A black box with the network in eval mode; its `model` has `forward_features` and `head`,
        see `saliencykit_zoo.fitnet.FitNet4`.

    Raises:
        SaliencyKitError: The installation lacks the weights.

    Example:
        >>> cifar10_fitnet().class_names[:3]
        ('airplane', 'automobile', 'bird')

    References:
        Dabkowski & Gal 2017, "Real Time Image Saliency for Black Box Classifiers", the CIFAR-10
        experiment. Romero et al. 2015, "FitNets: Hints for Thin Deep Nets".
    """
    from safetensors.torch import load_file

    from saliencykit_zoo.fitnet import FitNet4

    try:
        facts = json.loads((HERE / "cifar10_fitnet.json").read_text(encoding="utf-8"))
        weights = load_file(HERE / "cifar10_fitnet.safetensors")
    except OSError as error:
        raise SaliencyKitError(
            f"this installation lacks the CIFAR-10 classifier: {error}; reinstall saliencykit-zoo."
        ) from error
    network = FitNet4(len(facts["classes"]))
    # strict=False: the batch norms' step counters are not stored
    network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return TorchBlackBox(
        network,
        mean=facts["mean"],
        std=facts["std"],
        size=facts["size"],
        class_names=tuple(facts["classes"]),
    )
