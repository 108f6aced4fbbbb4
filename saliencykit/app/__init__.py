"""The page on which one looks at masks in a browser; the parts of it know no web framework."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
