"""saliencykit-zoo: trained weights as a plugin of saliencykit.

Importing it reads no file and loads nothing heavy; a factory does, when its name is used.
"""

from collections.abc import Callable, Mapping

from saliencykit import BlackBox, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """Classifiers that this project trained."""
    from saliencykit_zoo.cifar10 import cifar10_fitnet

    return {"cifar10-fitnet": cifar10_fitnet}
