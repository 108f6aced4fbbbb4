"""Maskers that query the black box on perturbed images, and the parts to build more of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
