"""Training a masking network: schedule, loop, feature cache, validation without bounding boxes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
