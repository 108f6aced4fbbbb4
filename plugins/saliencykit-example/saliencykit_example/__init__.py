"""saliencykit-example: the names that this plugin adds to saliencykit.

A hook returns names with factories. Put heavy imports inside: this module is loaded at the
first look-up of any name.
"""

from collections.abc import Callable, Mapping

from saliencykit import Alternative, BlackBox, Masker, Metric, Term, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """A classifier whose reasons are known."""
    from saliencykit_example.black_box import MainColor

    return {"main-color": MainColor}


@hookimpl
def provide_alternatives() -> Mapping[str, Callable[..., Alternative]]:
    """The pixels of the image in a random order."""
    from saliencykit_example.alternative import Shuffled

    return {"shuffled": Shuffled}


@hookimpl
def provide_terms() -> Mapping[str, Callable[..., Term]]:
    """A penalty on gray masks."""
    from saliencykit_example.term import Undecided

    return {"undecided": Undecided}


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """A masker that needs no gradients."""
    from saliencykit_example.masker import Peephole

    return {"peephole": Peephole}


@hookimpl
def provide_metrics() -> Mapping[str, Callable[..., Metric]]:
    """How much of the class the mask keeps."""
    from saliencykit_example.metric import Kept

    return {"kept": Kept}
