"""Reading torch modules: feature maps, classifier heads, partial networks, optimized copies."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
