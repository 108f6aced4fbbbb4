"""Names of parts: plugins, what they provide, and how texts become objects."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
