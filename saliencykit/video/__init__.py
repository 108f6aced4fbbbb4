"""Explaining videos: reading, motion and cuts, smoothing of masks, overlays, writing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
