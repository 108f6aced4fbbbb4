"""calibrate: masks whose regions keep the decision with a frequency that holds for new images.

    from saliencykit.calibration import calibrate
    masker = calibrate(model, "cam", "photos")

The public names are listed in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
