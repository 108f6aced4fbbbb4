"""saliencykit-superpixel: maskers and alternatives that work on superpixels, a saliencykit plugin.

Importing it loads nothing heavy; scikit-image is loaded when an image is segmented.
"""

from collections.abc import Callable, Mapping

from saliencykit import Alternative, Masker, hookimpl


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """Maskers that fit a linear model to queries with random sets of superpixels."""
    from saliencykit_superpixel.lime import Lime
    from saliencykit_superpixel.superpixel_rise import SuperpixelRise

    return {"lime": Lime, "superpixel-rise": SuperpixelRise}


@hookimpl
def provide_alternatives() -> Mapping[str, Callable[..., Alternative]]:
    """Inpainting of the masked part, and each superpixel in its mean color."""
    from saliencykit_superpixel.flat import Flat
    from saliencykit_superpixel.inpaint import Inpaint

    return {"inpaint": Inpaint, "flat": Flat}
