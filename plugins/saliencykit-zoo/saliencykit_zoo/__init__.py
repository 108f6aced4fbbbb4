"""saliencykit-zoo: trained weights as a plugin of saliencykit.

Importing it reads no files and is cheap; weights are loaded when a name is used.
"""

from collections.abc import Callable, Mapping

from saliencykit import BlackBox, Masker, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """A classifier trained by this project, and five ImageNet classifiers without their weights."""
    from saliencykit_zoo import imagenet
    from saliencykit_zoo.cifar10 import cifar10_fitnet

    return {
        "cifar10-fitnet": cifar10_fitnet,
        "mobilenetv2": imagenet.mobilenetv2,
        "squeezenet1-0": imagenet.squeezenet1_0,
        "mobilenetv1-100": imagenet.mobilenetv1_100,
        "mobilenetv1-075": imagenet.mobilenetv1_075,
        "efficientnet-lite0": imagenet.efficientnet_lite0,
    }


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """Trained maskers: `explain` selects them automatically for the weights that they were trained
    for.
    """
    from pathlib import Path

    from saliencykit.maskers import TrainedFile

    here = Path(__file__).parent
    files = {
        "mobilenetv2": "mobilenetv2",
        "squeezenet1-0": "squeezenet1_0",
        "mobilenetv1-100": "mobilenetv1_100",
        "mobilenetv1-075": "mobilenetv1_075",
        "efficientnet-lite0": "efficientnet_lite0",
    }
    return {name: TrainedFile(here / f"{file}_masker.safetensors") for name, file in files.items()}
