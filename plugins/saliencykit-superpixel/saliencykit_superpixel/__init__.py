"""saliencykit-superpixel: maskers and alternatives that work on superpixels, as a plugin of
saliencykit.

Importing it loads nothing heavy; scikit-image is loaded when a picture is cut.
"""

from collections.abc import Callable, Mapping

from saliencykit import Alternative, Masker, hookimpl


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """Two that fit a linear model to the answers under random sets of superpixels."""
    from saliencykit_superpixel.lime import Lime
    from saliencykit_superpixel.rise import SuperpixelRise

    return {"lime": Lime, "superpixel-rise": SuperpixelRise}


@hookimpl
def provide_alternatives() -> Mapping[str, Callable[..., Alternative]]:
    """What was behind the masked part, guessed from around it; and each superpixel in its mean
    colour.
    """
    from saliencykit_superpixel.flat import Flat
    from saliencykit_superpixel.inpaint import Inpaint

    return {"inpaint": Inpaint, "flat": Flat}
