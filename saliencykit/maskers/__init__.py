"""Maskers: attribution methods that return a mask.

    from saliencykit.maskers import Rise
    mask = Rise(samples=500)(black_box, images, labels, generator=torch.Generator())

The public names are listed in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
