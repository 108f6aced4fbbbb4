"""Metrics: scores of masks, by perturbing the image, by bounding boxes, or of the map alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
