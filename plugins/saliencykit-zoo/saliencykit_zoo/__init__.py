"""saliencykit-zoo: trained weights as a plugin of saliencykit.

Importing it reads no files and is cheap; weights are loaded when a name is used.
"""

from collections.abc import Callable, Mapping

from saliencykit import BlackBox, Masker, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """A classifier trained by this project, and five ImageNet classifiers without their weights."""
    from saliencykit_zoo.cifar10 import cifar10_fitnet
    from saliencykit_zoo.imagenet import CLASSIFIERS

    named = {name: classifier.factory(name) for name, classifier in CLASSIFIERS.items()}
    return {"cifar10-fitnet": cifar10_fitnet, **named}


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """Trained maskers: `explain` selects them automatically for the weights that they were trained
    for.
    """
    from pathlib import Path

    from saliencykit.maskers import TrainedFile
    from saliencykit_zoo.imagenet import CLASSIFIERS

    here = Path(__file__).parent
    return {
        name: TrainedFile(here / f"{name.replace('-', '_')}_masker.safetensors")
        for name in CLASSIFIERS
    }
