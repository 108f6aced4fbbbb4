"""saliencykit: which pixels does this decision rest on?

    from saliencykit import explain
    explain(model, image, label).overlay().show()

The public names are listed in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

from saliencykit._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
