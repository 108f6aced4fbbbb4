"""Images with labels and bounding boxes, in any form that people keep them in.

    from saliencykit.data import Dataset
    data = Dataset.open("photos", black_box)

The public names are listed in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
