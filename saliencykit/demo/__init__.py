"""The embedded default: a small classifier with its masker, and the image that they explain."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
