"""Terms of the objectives that masks are optimized for, and the objectives that have a name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
